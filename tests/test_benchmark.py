"""scripts/benchmark: every benchmark runs to its table; what it measures is not tested."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[1] / "scripts" / "benchmark"
NAMES = ("loop", "mlm", "clm", "peak", "data", "words", "images", "resnet", "start", "tokenize", "checkpoint")


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_benchmark_prints_a_table_and_the_command_that_made_it(name):
    words = [sys.executable, str(BENCHMARK), name, "--quick"]
    result = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert result.returncode == 0, result.stderr
    assert "| --- |" in result.stdout
    assert f"`scripts/benchmark {name} --quick`" in result.stdout


@pytest.mark.slow
@pytest.mark.parametrize("script", ["benchmark", "reliability", "reproduce"])
def test_a_python_without_ptft_gives_way_to_the_environments_own_or_says_what_to_do(script):
    result = subprocess.run([sys.executable, "-S", BENCHMARK.with_name(script), "--help"], capture_output=True, text=True)
    assert "Traceback" not in result.stderr
    assert result.stdout.startswith("usage") or "run scripts/environment" in result.stderr
