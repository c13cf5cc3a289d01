"""Benchmarking: what a model costs on this device, beside what its arithmetic must cost."""

from laglite.benchmarking.measure import Measurement, measure
from laglite.benchmarking.process import measure_apart
from laglite.benchmarking.workload import Workload

__all__ = ["Measurement", "Workload", "measure", "measure_apart"]
