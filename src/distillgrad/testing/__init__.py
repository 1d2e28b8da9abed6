"""The contract of methods, metrics and models, to check your own by; needs no test framework.

from distillgrad.testing import check_method, method_checks

check_method(MyMethod, n_steps=3)  # raises an AssertionError that names the check and what is wrong


@pytest.mark.parametrize("check", method_checks(MyMethod, n_steps=3), ids=str)  # or one by one
def test_contract(check):
check()
"""

from __future__ import annotations

from distillgrad.testing.check import Check as Check
from distillgrad.testing.methods import METHOD_CHECKS as METHOD_CHECKS
from distillgrad.testing.methods import MethodSubject as MethodSubject
from distillgrad.testing.methods import check_method as check_method
from distillgrad.testing.methods import method_checks as method_checks
from distillgrad.testing.metrics import METRIC_CHECKS as METRIC_CHECKS
from distillgrad.testing.metrics import check_metric as check_metric
from distillgrad.testing.metrics import metric_checks as metric_checks
from distillgrad.testing.model import check_model as check_model
