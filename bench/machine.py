"""What a record says about where and with what it was made. Nothing that names a machine or its owner."""

import datetime
import os
import platform
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

from interpreter import FOLDER

INSTRUCTION_SETS = set(
    "avx2 fma f16c avx_vnni avx512f avx512bw avx512vl avx512_bf16 avx512_fp16 amx_bf16 asimd asimdhp bf16 sve sve2".split()  # of x86-64 and AArch64
)
CRATES = ("burn", "burn-flex", "candle-core", "candle-nn", "half", "rayon")


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine(threads: int) -> dict[str, Any]:
    """The date and the machine, before the run."""
    info = cpu_info()
    flags = (info.get("flags") or info.get("Features") or "").split()
    kernel = re.match(r"[\d.]*\d", platform.release())
    pages = read("/sys/kernel/mm/transparent_hugepage/enabled")
    huge = re.search(r"\[(\w+)\]", pages)
    return {
        "date": datetime.date.today().isoformat(),
        "machine": {
            "cpu": info.get("model name") or command("sysctl", "-n", "machdep.cpu.brand_string") or platform.machine(),
            "architecture": platform.machine(),
            "cores": os.cpu_count(),
            "threads": threads,
            "last_level_cache": cache(),
            "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
            "system": f"{platform.system()} {kernel[0] if kernel else ''}".strip(),
            "virtual": "hypervisor" in flags,
            "instruction_sets": sorted(INSTRUCTION_SETS.intersection(flags)),
            "transparent_huge_pages": huge[1] if huge else None,
            "load_before": round(os.getloadavg()[0], 2),
        },
    }


def versions(by_workers: dict[str, str]) -> dict[str, Any]:
    lock = tomllib.loads((FOLDER / "rust/Cargo.lock").read_text())
    crates = {package["name"]: package["version"] for package in lock["package"] if package["name"] in (*CRATES, "xent")}
    commit = git("rev-parse", "--short=12", "HEAD")
    return {
        "xent": {"version": crates.pop("xent"), "commit": commit, "changed_since": bool(git("status", "--porcelain", "--", ":/crates/xent", ":/bench/rust"))},
        **dict(sorted(by_workers.items())),
        **crates,
        "rustc": command("rustc", "--version").removeprefix("rustc "),
        "c++": command("g++", "-dumpfullversion"),
    }


def record_name(record: dict[str, Any]) -> str:
    words = re.sub(r"\((r|tm)\)|\bcpu\b|@.*", " ", record["machine"]["cpu"].lower())
    slug = "-".join(re.findall(r"[a-z0-9]+", words))
    usual = record["settings"]["set"] == "usual"
    return f"{record['date']}-{slug}-{record['machine']['threads']}t{'' if usual else '-' + record['settings']['set']}.json"


def cpu_info() -> dict[str, str]:
    """The first processor of /proc/cpuinfo."""
    first = read("/proc/cpuinfo").split("\n\n")[0]
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in first.splitlines())}


def cache() -> str | None:
    sizes = sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"))
    return read(sizes[-1]).strip() if sizes else None


def read(path: str | Path) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def git(*arguments: str) -> str:
    return command("git", "-C", str(FOLDER), *arguments)


def command(*words: str) -> str:
    """What a program says, or nothing if there is no such program."""
    try:
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
