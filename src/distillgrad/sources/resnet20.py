"""ResNet-20 for CIFAR-10, the classifier on which many published comparisons were made."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import pad

from distillgrad.errors import ParameterError
from distillgrad.sources.bundled import CLASSES
from distillgrad.sources.classifier import LoadedModel
from distillgrad.sources.preprocess import IMAGENET_MEAN, IMAGENET_STD, ResizeAndCrop
from distillgrad.sources.weights import load_weights, read_weights

NAME = "cifar10-resnet20"


class BasicBlock(nn.Module):
    """A block of two 3×3 convolutions beside a shortcut without parameters (option A).

    Where the shape changes the shortcut takes every second pixel and fills the new channels with zeros, as
    many before as after. Each ReLU is a module of its own: methods that follow single activations
    (DeepLIFT) must tell them apart.
    """

    def __init__(self, n_inputs: int, n_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(n_inputs, n_channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(n_channels)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(n_channels, n_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(n_channels)
        self.relu2 = nn.ReLU()
        self.stride = stride
        self.n_zeros = (n_channels - n_inputs) // 2

    def forward(self, x: Tensor) -> Tensor:
        residual = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        shortcut = x[:, :, :: self.stride, :: self.stride]
        if self.n_zeros:
            shortcut = pad(shortcut, (0, 0, 0, 0, self.n_zeros, self.n_zeros))
        activation: Tensor = self.relu2(residual + shortcut)
        return activation


class ResNet20(nn.Module):
    """A convolution and three stages of three blocks, of 16, 32 and 64 channels; 269,722 parameters.

    Source: He et al. 2016, "Deep Residual Learning for Image Recognition", §4.2, n = 3. Parameters are
    named as in the widespread reimplementation by Y. Idelbayev, so that its checkpoints fit.
    """

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU()
        self.layer1 = _stage(16, 16, stride=1)
        self.layer2 = _stage(16, 32, stride=2)
        self.layer3 = _stage(32, 64, stride=2)
        self.linear = nn.Linear(64, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: Tensor = self.linear(x.mean((2, 3)))
        return logits


def _stage(n_inputs: int, n_channels: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        BasicBlock(n_inputs, n_channels, stride),
        BasicBlock(n_channels, n_channels, 1),
        BasicBlock(n_channels, n_channels, 1),
    )


def resnet20_model(weights: str, pretrained: bool) -> LoadedModel:
    """Return CIFAR-10's ResNet-20 with the weights of a file, which distillgrad does not ship.

    Args:
        weights: A ``.safetensors`` or a torch file; read only if ``pretrained``.
        pretrained: False gives random weights.

    Raises:
        ParameterError: pretrained, but no file is named.
        SourceError: weights that are missing, broken or of another model.
    """
    model = ResNet20(len(CLASSES))
    if pretrained:
        if not weights:
            raise ParameterError(f"{NAME} does not come with its weights: write {NAME}@WEIGHTS")
        load_weights(model, read_weights(weights), weights)
    return LoadedModel(
        model=model.eval(),
        preprocess=ResizeAndCrop(32, 32, IMAGENET_MEAN, IMAGENET_STD),
        classes=CLASSES,
        input_size=(3, 32, 32),
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        name=NAME,
    )
