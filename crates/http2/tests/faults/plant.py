#!/usr/bin/env python3
"""Plants wrong behaviour in a copy of crates/http2, and runs the tests that must find it: docs/TESTING.md.

    plant.py            all faults of the files beside this one
    plant.py NAME...    only these

A file has entries of this form. Lines of `#` are comments.

    fault NAME
    test PART           a part of the name of the test that must find it
    file PATH           below crates/http2/src
    - CODE              what stands there; white space does not matter. `Backticks` mark an expression in it
    + CODE              the expression of the fault

Each marked expression becomes `if planted("NAME") { fault } else { expression }`, so that one build has all faults, and
an environment variable chooses one of them. A fault is found when a test fails that passes in the same build without it.
Exit status 1: a fault was not found.
"""

import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[3]
COPY = ROOT / "target" / "faults-http2"
# A test that never ends has found nothing.
SECONDS_MAX = 120
# A test mostly computes.
AT_ONCE = os.cpu_count() or 1
# The same cases at every run, no search for smaller ones, and nothing written beside the tests.
SETTINGS = {
    "PROPTEST_RNG_SEED": "1",
    "PROPTEST_MAX_SHRINK_ITERS": "0",
    "PROPTEST_DISABLE_FAILURE_PERSISTENCE": "1",
    "LONGLIVED_SEEDS": "40",
    "CARGO_TERM_COLOR": "never",
    "RUSTFLAGS": "",
}
PLANTED = """
/// Whether this process has the fault of this name.
fn planted(name: &str) -> bool {
    static FAULT: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    FAULT.get_or_init(|| std::env::var("LONGLIVED_FAULT").ok()).as_deref() == Some(name)
}
"""


@dataclass
class Fault:
    name: str
    test: str = ""
    file: str = ""
    old: str = ""
    new: str = ""


def fail(text):
    sys.exit(text)


def faults():
    """All entries, in the order of files and lines."""
    found = []
    for path in sorted(HERE.glob("*.txt")):
        for line in path.read_text().splitlines():
            kind, _, rest = line.partition(" ")
            if not line.strip() or kind == "#":
                continue
            if kind == "fault":
                found.append(Fault(rest))
                continue
            key = {"test": "test", "file": "file", "-": "old", "+": "new"}.get(kind) or fail(f"{path}: {line}")
            setattr(found[-1], key, f"{getattr(found[-1], key)} {rest}".strip())
    names = [fault.name for fault in found]
    for fault in found:
        if names.count(fault.name) > 1 or not (fault.test and fault.file and fault.old.count("`") == 2 and fault.new):
            fail(f"{fault.name}: twice, or a part of it is missing")
    return found


def pattern(code):
    """Matches the code with any white space between its words."""
    return r"\s*".join(re.escape(word) for word in re.findall(r"\w+|[^\w\s]", code))


def span(fault, text):
    """Where the marked expression stands."""
    before, marked, after = (pattern(part) for part in fault.old.split("`"))
    matches = list(re.finditer(rf"{before}\s*(?P<marked>{marked})\s*{after}", text))
    if len(matches) != 1:
        fail(f"{fault.name}: its code stands {len(matches)} times in {fault.file}")
    return matches[0].span("marked")


def planted(text, by_span):
    """The text with all faults in it. Spans are apart from each other, or one within the other."""

    def write(begin, end, spans):
        out, at = [], begin
        while spans:
            (first, last), *spans = spans
            inner = [it for it in spans if it[0] < last]
            if any(it[1] > last for it in inner):
                fail(f"{by_span[first, last][0].name}: its code overlaps that of another")
            spans = spans[len(inner) :]
            choices = "".join(f'if crate::planted("{it.name}") {{ {it.new} }} else ' for it in by_span[first, last])
            out += [text[at:first], f"({choices}{{ {write(first, last, inner)} }})"]
            at = last
        return "".join(out) + text[at:end]

    return write(0, len(text), sorted(by_span, key=lambda it: (it[0], -it[1])))


def put(path, text):
    """Writes a file, unless it is the same: cargo looks at times."""
    if not path.exists() or path.read_text() != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def copy(found):
    """A workspace of this crate alone, with the faults."""
    manifest = re.sub(r"(?m)^members = .*\n|^default-members = .*\n|^longlived-.*path = .*\n", "", (ROOT / "Cargo.toml").read_text())
    sections = re.split(r"(?m)^(?=\[)", manifest)
    kept = "".join(it for it in sections if it.startswith(("[workspace.", "[profile.")))
    put(COPY / "Cargo.toml", f'[workspace]\nmembers = ["crates/http2"]\nresolver = "3"\n\n{kept}')
    # Cargo takes out what this workspace does not need.
    (COPY / "Cargo.lock").write_text((ROOT / "Cargo.lock").read_text())
    crate = HERE.parents[1]
    into = COPY / "crates" / "http2"
    files = [path for path in crate.rglob("*") if path.is_file() and HERE not in path.parents]
    for path in files:
        name = path.relative_to(crate)
        text = path.read_text()
        here = [fault for fault in found if str(Path("src") / fault.file) == str(name)]
        by_span = {}
        for fault in here:
            by_span.setdefault(span(fault, text), []).append(fault)
        text = planted(text, by_span)
        put(into / name, text + PLANTED if str(name) == "src/lib.rs" else text)
    known = {path.relative_to(crate) for path in files}
    for path in list(into.rglob("*")):
        if path.is_file() and path.relative_to(into) not in known:
            path.unlink()
    for fault in found:
        if not (crate / "src" / fault.file).exists():
            fail(f"{fault.name}: there is no {fault.file}")


def build():
    """The program of tests."""
    command = ["cargo", "test", "--no-run", "--offline", "-p", "longlived-http2", "--test", "it"]
    environment = {**os.environ, **SETTINGS, "CARGO_TARGET_DIR": str(COPY / "target")}
    built = subprocess.run(command, cwd=COPY, env=environment, text=True, stderr=subprocess.PIPE)
    program = re.search(r"Executable.*\((.*)\)", built.stderr)
    if built.returncode != 0 or not program:
        fail(built.stderr)
    return COPY / program[1]


def run(program, tests, fault=None):
    """The tests that pass and that fail, of those with such a part in their names."""
    environment = {**os.environ, **SETTINGS, "LONGLIVED_FAULT": fault or ""}
    try:
        ran = subprocess.run(
            [program, *tests], cwd=COPY / "crates/http2", env=environment, text=True, capture_output=True, timeout=SECONDS_MAX
        )
        out = ran.stdout
    except subprocess.TimeoutExpired:
        return set(), set()
    of = lambda result: set(re.findall(rf"(?m)^test (\S+)(?: - should panic)? \.\.\. {result}$", out))
    return of("ok"), of("FAILED")


def main():
    found = faults()
    wanted = sys.argv[1:]
    names = {fault.name for fault in found}
    for name in wanted:
        if name not in names:
            fail(f"{name}: there is no such fault, only: {' '.join(sorted(names))}")
    copy(found)
    program = build()
    chosen = [fault for fault in found if not wanted or fault.name in wanted]
    passing, failing = run(program, sorted({fault.test for fault in chosen}))
    if failing or not passing:
        fail(f"without a fault these tests fail: {sorted(failing)}")
    print(f"without a fault {len(passing)} tests pass")
    survived = 0
    with ThreadPoolExecutor(AT_ONCE) as runs:
        results = runs.map(lambda fault: run(program, [fault.test], fault.name), chosen)
        for fault, (_, failed) in zip(chosen, results):
            first, *more = sorted(failed & passing) or [""]
            by = first + (f" and {len(more)} more" if more else "")
            survived += not by
            print(f"{fault.name:60} {by or f'NOT FOUND by {fault.test}'}", flush=True)
    print(f"{len(chosen) - survived} of {len(chosen)} found")
    sys.exit(survived > 0)


if __name__ == "__main__":
    main()
