"""A test that fails with a machine at hand shows what the daemon logged there."""

from collections.abc import Generator

import pytest


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.when == "call" and report.failed and (machine := item.funcargs.get("machine")):
        report.sections.append(("journal", machine.journal("-n", "50")))
    return report
