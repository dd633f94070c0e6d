"""Run tests/conformance on Aktis and on the system that it is written for, and compare the outcomes.

The peer lives in the environment of the benchmarks (``AKTIS_BENCH_PEERS``, else build/peers), which stays as
it is: pytest is installed into build/conformance, which only looks into the other one.

Usage: ``python tools/conformance.py [pytest arguments]``, or ``make conformance``.
"""

import hashlib
import subprocess
import sys
import venv
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.peers import environment  # noqa: E402

FOLDER = ROOT / "build" / "conformance"
TESTS = "tests/conformance"
REQUIREMENTS = ("hypothesis>=6.120", "pytest>=8.3", "pytest-timeout>=2.3", "pytest-xdist>=3.6")
PEER_TIMEOUT_S = 180
"""For one test; a cluster of the peer takes long to start on a busy machine."""

PASSED, FAILED, EXPECTED = "passed", "failed", "fails as marked"


def ensure_interpreter() -> Path:
    """Make the environment in which pytest meets the peer, unless it is there; return its interpreter."""
    peer = environment.ensure()
    python = FOLDER / "bin" / "python"
    stamp = FOLDER / "made.sha256"
    wanted = hashlib.sha256(repr((REQUIREMENTS, str(peer), sys.version)).encode()).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    print(f"making the environment of the conformance tests in {FOLDER} (once)", file=sys.stderr, flush=True)
    venv.create(FOLDER, clear=True, with_pip=True)
    pip: list[str | Path] = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, *REQUIREMENTS], check=True)
    packages = "import sysconfig; print(sysconfig.get_path('purelib'))"
    own, of_peer = (
        subprocess.run([each, "-c", packages], check=True, capture_output=True, text=True).stdout.strip()
        for each in (python, peer)
    )
    (Path(own) / "peer.pth").write_text(of_peer + "\n")
    stamp.write_text(wanted)
    return python


def outcomes(report: Path) -> dict[str, str]:
    """Read what became of each test from a JUnit report."""
    found = {}
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        name = f"{case.get('classname', '').rpartition('.')[2]}::{case.get('name')}"
        skipped = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            found[name] = FAILED
        elif skipped is not None:
            found[name] = f"{EXPECTED}: {skipped.get('message', '')}"
        else:
            found.setdefault(name, PASSED)
    return found


def run(system: str, python: Path, arguments: list[str]) -> dict[str, str]:
    """Run the tests on one system; return what became of each."""
    print(f"== {system}", flush=True)
    report = FOLDER / f"{system}.xml"
    report.unlink(missing_ok=True)
    options = ["--peer", system, "-q", f"--junitxml={report}", "-p", "no:cacheprovider", "-n", "2"]
    if system != "aktis":
        options += ["-W", "ignore", f"--timeout={PEER_TIMEOUT_S}"]
    where = [] if any(argument.startswith(TESTS) for argument in arguments) else [TESTS]
    command: list[str | Path] = [python, "-m", "pytest", *options, *arguments, *where]
    finished = subprocess.run(command, cwd=ROOT, check=False)
    if not report.exists():
        sys.exit(f"pytest ended with {finished.returncode} before it had run a test on {system}")
    return outcomes(report)


def run_peer(python: Path, arguments: list[str]) -> dict[str, str]:
    """Run the tests on the peer, and those that fail once more: its driver aborts now and then."""
    found = run("ray", python, arguments)
    failed = [name for name, outcome in found.items() if outcome == FAILED]
    if failed:
        print(f"== ray again, for {len(failed)} that failed", flush=True)
        found |= run("ray", python, [f"{TESTS}/{module}.py::{test}" for module, test in map(split, failed)])
    return found


def split(name: str) -> tuple[str, str]:
    """Return the module and the test of a name in an outcome."""
    module, _, test = name.partition("::")
    return module, test


def compare(ours: dict[str, str], theirs: dict[str, str]) -> list[str]:
    """Describe each test that did not do on both systems what its markers say."""
    problems = [f"{name}: not run on the peer" for name in sorted(set(ours) - set(theirs))]
    problems += [f"{name}: not run on Aktis" for name in sorted(set(theirs) - set(ours))]
    for name in sorted(set(ours) & set(theirs)):
        if FAILED in (ours[name], theirs[name]):
            problems.append(f"{name}: {ours[name]} on Aktis, {theirs[name]} on the peer")
    return problems


def main(arguments: list[str]) -> int:
    """Run both, print what differs, return 1 when that is not what the markers say."""
    peer_python = ensure_interpreter()
    ours = run("aktis", Path(sys.executable), arguments)
    theirs = run_peer(peer_python, arguments)
    print("== both")
    for label, found in (("Aktis", ours), ("the peer", theirs)):
        for name, outcome in sorted(found.items()):
            if outcome.startswith(EXPECTED):
                print(f"{name} {outcome} ({label})")
    problems = compare(ours, theirs)
    print(*problems, sep="\n")
    for label, found in (("Aktis", ours), ("the peer", theirs)):
        counts = Counter(outcome.partition(":")[0] for outcome in found.values())
        print(f"{label}: " + ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items())))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
