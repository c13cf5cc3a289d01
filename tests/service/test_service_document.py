"""docs/service.md says what the service does."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import httpx
import pytest

from laglite.service.problems import KINDS
from laglite.service.settings import Limits, option_name

TEXT = (Path(__file__).parents[2] / "docs/service.md").read_text(encoding="utf-8")


def test_every_kind_of_problem_is_documented() -> None:
    for kind in KINDS:
        assert f"| `{kind.name}` | {kind.status} |" in TEXT


@pytest.mark.parametrize("limit", fields(Limits), ids=lambda limit: limit.name)
def test_every_limit_is_documented_with_its_default(limit: Any) -> None:
    assert f"| `{option_name(limit.name)}` | {limit.default:,} |".replace(".0 ", " ") in TEXT


def test_every_endpoint_is_documented(client: httpx.Client) -> None:
    for path in client.get("/openapi.json").json()["paths"]:
        said = path.replace("{stream_id}", "ID")
        assert re.search(rf"`(GET |POST |DELETE |GET` and `DELETE )?{said}`", TEXT), said


def test_no_answer_is_described_that_is_not_given(client: httpx.Client) -> None:
    described = client.get("/openapi.json").json()
    assert "ValidationError" not in str(described)
    assert "422" not in described["paths"]["/streams/{stream_id}"]["get"]["responses"]


def test_the_examples_request_and_answer_fit(client: httpx.Client) -> None:
    request = json.loads(TEXT.partition("--json '")[2].partition("'\n")[0])
    answer = client.post("/forecast", json=request).json()
    example = json.loads(TEXT.split("```json\n")[1].split("```")[0])
    assert list(answer) == list(example)
    assert answer["seed"] == example["seed"] == request["seed"]
    (found,), (expected,) = answer["forecasts"], example["forecasts"]
    assert list(found) == list(expected)
    assert found["timestamps"] == expected["timestamps"]
    assert len(found["mean"]) == len(expected["mean"])
    assert list(found["quantiles"]) == list(expected["quantiles"])
