"""Requests that nobody would write, made by schemathesis from the service's own description.

    python benchmarks/service_fuzz.py --output FILE.json [--examples 200] [--model nano]

Starts `laglite serve` on loopback and lets schemathesis send it what the description allows and
what it forbids: examples, values at every limit, random ones, and sequences of calls. Its checks
must all hold: no status 500, only statuses, headers, content types and bodies that are described,
and a refusal of all that is not allowed. One check is left out: text that the description allows
(a time, a frequency) may still be refused by what it says. A Markdown table is written beside FILE.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from threading import Thread
from typing import Any

import click
from result_files import write_results

from laglite.benchmarking.environment import environment

PHASES = ("examples", "coverage", "fuzzing", "stateful")


def start(model: str, *options: str) -> tuple[subprocess.Popen[str], str]:
    """A service on a free port of loopback, and its address; what else it says goes to stderr."""
    server = subprocess.Popen(
        [sys.executable, "-m", "laglite", "serve", "--model", model, "--port", "0", *options],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert server.stderr is not None
    found = re.search(r"at (http://\S+)", server.stderr.readline())
    if found is None:
        raise click.ClickException(server.stderr.read())
    # A pipe that nobody reads fills, and its writer waits.
    Thread(target=shutil.copyfileobj, args=(server.stderr, sys.stderr), daemon=True).start()
    return server, found[1]


def fuzz(url: str, examples: int, phases: str, seed: int, folder: Path) -> dict[str, Any]:
    """What was sent and answered, and what schemathesis says of it."""
    archive = folder / "requests.har"
    done = subprocess.run(
        [Path(sys.executable).with_name("schemathesis"), "run", f"{url}/openapi.json",
         "--phases", phases, "--max-examples", str(examples), "--seed", str(seed),
         "--exclude-checks", "positive_data_acceptance", "--warnings", "off",
         "--suppress-health-check", "all", "--generation-database", "none",
         "--no-color", "--report", "har", "--report-har-path", str(archive)],
        capture_output=True, text=True, check=False, cwd=folder,
    )  # fmt: skip
    entries = json.loads(archive.read_text())["log"]["entries"]
    statuses: Counter[tuple[str, int]] = Counter()
    for entry in entries:
        path = re.sub(r"^https?://[^/]+", "", entry["request"]["url"]).partition("?")[0]
        path = re.sub(r"^/streams/.*?(/values|/forecast|/reset)?$", r"/streams/ID\1", path)
        statuses[path, entry["response"]["status"]] += 1
    return {
        "requests": len(entries),
        "statuses": [
            {"path": path, "status": status, "count": count}
            for (path, status), count in sorted(statuses.items())
        ],
        "server_errors": sum(count for (_, status), count in statuses.items() if status == 500),
        "failures": 0 if done.returncode == 0 else done.stdout.count("- ST"),
        "passed": done.returncode == 0,
        "summary": done.stdout[done.stdout.find("= FAILURES") :] if done.returncode else "",
    }


def to_markdown(found: dict[str, Any], machine: dict[str, Any]) -> str:
    by_status: Counter[int] = Counter()
    for row in found["statuses"]:
        by_status[row["status"]] += row["count"]
    lines = [
        "# Requests made up from the service's description",
        "",
        f"{found['requests']:,} requests by schemathesis {found['schemathesis']} to "
        f"`laglite serve` with `{machine['model']}` ({found['examples']} examples an endpoint, "
        f"seed {found['seed']}); {found['server_errors']} answers with status 500, "
        f"{found['failures']} checks that failed.",
        "",
        "| status | " + " | ".join(str(status) for status in sorted(by_status)) + " |",
        "|---|" + "---:|" * len(by_status),
        "| answers | " + " | ".join(f"{by_status[one]:,}" for one in sorted(by_status)) + " |",
    ]
    return "\n".join(lines) + "\n"


@click.command()
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), required=True)
@click.option("--examples", type=click.IntRange(1), default=200, show_default=True)
@click.option("--model", default="nano", show_default=True)
@click.option("--seed", default=1, show_default=True)
@click.option("--phases", default=",".join(PHASES), show_default=True)
def main(output: Path, examples: int, model: str, seed: int, phases: str) -> None:
    """Send the service what nobody would."""
    from importlib.metadata import version

    server, url = start(model, "--threads", "1")
    try:
        with tempfile.TemporaryDirectory() as folder:
            found = fuzz(url, examples, phases, seed, Path(folder))
    finally:
        server.terminate()
        server.wait()
    machine = environment(model)
    found |= {"examples": examples, "seed": seed, "schemathesis": version("schemathesis")}
    write_results(output, {"machine": machine, **found}, to_markdown(found, machine))
    if not found["passed"]:
        raise click.ClickException(found["summary"])


if __name__ == "__main__":
    main()
