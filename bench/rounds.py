"""Answers compared first, then rounds in which every contender has its turn."""

import os
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cases import Case
from contenders import OURS, Contender, Unsupported, Worker, WorkerError
from reference import Agreement, Reference

QUIET = 0.05  # cores that other programs may keep busy
KTHREADD = 2  # the parent of the kernel's threads
PAUSE = 0.05  # seconds before a turn, in which the last contender's threads stop looking for work


@dataclass(frozen=True)
class Settings:
    threads: int
    rounds: int
    turn: float


class Session:
    """One process a contender, kept for all cases."""

    def __init__(self, contenders: list[Contender], settings: Settings) -> None:
        self.contenders = contenders
        self.settings = settings
        self.workers: dict[str, Worker] = {}
        self.known_versions: dict[str, str] = {}

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.workers.values():
            worker.quit()

    def versions(self) -> dict[str, str]:
        return self.known_versions

    def worker(self, contender: Contender) -> Worker:
        """The contender's process; a new one if it died in the last case."""
        worker = self.workers.get(contender.key)
        if worker is None or not worker.alive:
            worker = self.workers[contender.key] = Worker(contender, self.settings.threads)
            self.known_versions |= worker.versions
        return worker

    def run(self, case: Case, data: dict[str, Any], folder: Path) -> dict[str, Any]:
        shape = "×".join(map(str, case.shape))
        print(f"\n{case.name}: {case.dtype} [{shape}], {case.rows} rows of {case.classes} classes", flush=True)
        reference = Reference(case, data, folder)
        results: dict[str, dict[str, Any]] = {}
        ready = [each for each in self.contenders if self.agrees(each, case, data, folder, reference, results.setdefault(each.key, {}))]
        with Strangers() as strangers:
            samples = self.time(ready, results)
        for worker in self.workers.values():
            if worker.alive:
                worker.ask("release")
        copies = samples.get(("xent", "copy"))
        for (key, what), rounds in samples.items():
            if "failed" in results[key]:
                continue
            results[key][what] = summary(rounds, case.elements, copies)
        report(self.contenders, results)
        if strangers.cores is not None and strangers.cores > QUIET:
            print(f"  other programs kept {strangers.cores:.2f} cores busy: this is no measurement")
        return {
            "name": case.name,
            "dtype": case.dtype,
            "shape": list(case.shape),
            "axis": case.axis,
            "rows": case.rows,
            "classes": case.classes,
            "elements": case.elements,
            "reference_loss": reference.loss,
            "strangers_busy_cores": strangers.cores,
            "results": results,
        }

    def agrees(self, contender: Contender, case: Case, data: dict[str, Any], folder: Path, reference: Reference, result: dict[str, Any]) -> bool:
        """Whether the contender can do the case and does it right; what is to be said about that goes into its result."""
        path, xent = folder / f"{contender.key}.bin", folder / "xent.bin"
        try:
            worker = self.worker(contender)
            worker.ask("prepare", case=data)
            answer = worker.ask("answer", gradient=str(path))
            ours = (xent, case.dtype) if contender.key != "xent" and xent.exists() else None
            agreement: Agreement = reference.compare(answer["loss"], path, answer["dtype"], ours, strict=contender.family == OURS)
        except Unsupported as why:
            result["unsupported"] = str(why)
            return False
        except WorkerError as error:
            result["failed"] = str(error)
            return False
        finally:
            if contender.key != "xent":
                path.unlink(missing_ok=True)
        result["agreement"] = agreement.as_record()
        return agreement.objection is None

    def time(self, contenders: list[Contender], results: dict[str, dict[str, Any]]) -> dict[tuple[str, str], list[list[int]]]:
        """Nanoseconds by contender and work, a list a round."""
        samples: dict[tuple[str, str], list[list[int]]] = {}
        repetitions: dict[tuple[str, str], int] = {}
        for turn in range(self.settings.rounds + 1):
            for contender in contenders:
                worker = self.workers[contender.key]
                for what in contender.works:
                    if "failed" in results[contender.key]:
                        continue
                    key = (contender.key, what)
                    time.sleep(PAUSE)
                    try:
                        with Idleness(self.workers, worker) as idleness:
                            ns = worker.time(what, repetitions.get(key, 1))
                    except WorkerError as error:
                        results[contender.key]["failed"] = str(error)
                        continue
                    if turn == 0:  # finds out how long the work takes
                        repetitions[key] = min(max(round(self.settings.turn * 1e9 / max(ns[0], 1)), 1), 1000)
                    else:
                        samples.setdefault(key, []).append(ns)
                        idleness.note(results[contender.key])
        return samples


class Idleness:
    """How busy the other workers were during a turn: they should sleep."""

    def __init__(self, workers: dict[str, Worker], working: Worker) -> None:
        self.others = [worker for worker in workers.values() if worker is not working]

    def __enter__(self) -> "Idleness":
        self.before = [worker.cpu_seconds() for worker in self.others]
        self.start = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        elapsed = time.monotonic() - self.start
        used = [after - before for worker, before in zip(self.others, self.before) if before is not None and (after := worker.cpu_seconds()) is not None]
        # One tick of the kernel's clock is no news.
        self.share = max(sum(used) - 0.01, 0.0) / elapsed

    def note(self, result: dict[str, Any]) -> None:
        result["others_busy"] = max(result.get("others_busy", 0.0), round(self.share, 3))


class Strangers:
    """How many cores programs that are not ours kept busy, on Linux; with what a hypervisor took away.

    The kernel's totals would count the interrupts and the ticks of our own pauses as other programs'.
    """

    def __enter__(self) -> "Strangers":
        self.before, self.start = foreign_seconds(), time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        used = [now - self.before.get(pid, 0.0) for pid, now in foreign_seconds().items()]
        self.cores = round(sum(used) / (time.monotonic() - self.start), 3) if used else None


def foreign_seconds() -> dict[int, float]:
    """Processor time by process, but for this one, its descendants and the kernel's own threads; 0 is the hypervisor."""
    ticks, parents = {}, {}
    try:
        stolen = int(Path("/proc/stat").read_text().split(maxsplit=9)[8])
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                stat = (folder / "stat").read_text()
            except OSError:  # it has ended
                continue
            fields = stat.rpartition(")")[2].split()
            # With the time of its children that have ended.
            parents[int(folder.name)], ticks[int(folder.name)] = int(fields[1]), sum(map(int, fields[11:15]))
    except (OSError, ValueError, IndexError):
        return {}
    own = {os.getpid(), KTHREADD}
    while more := {pid for pid, parent in parents.items() if parent in own} - own:
        own |= more
    return {pid: used / os.sysconf("SC_CLK_TCK") for pid, used in ({0: stolen} | ticks).items() if pid not in own}


def summary(rounds: list[list[int]], elements: int, copies: list[list[int]] | None) -> dict[str, Any]:
    """Spread over all samples; the number of copies is of the same round's."""
    samples = sorted(ns for turn in rounds for ns in turn)
    medians = [statistics.median(turn) for turn in rounds]
    lower, median, upper = statistics.quantiles(samples, n=4, method="inclusive") if len(samples) > 1 else samples * 3
    found = {
        "ns": {"median": median, "lower_quartile": lower, "upper_quartile": upper, "min": samples[0], "max": samples[-1]},
        "samples": len(samples),
        "round_medians_ns": medians,
        "ns_per_element": round(median / elements, 5),
    }
    if copies and len(copies) == len(rounds):
        found["copies"] = round(statistics.median(mine / statistics.median(copy) for mine, copy in zip(medians, copies)), 3)
    return found


def report(contenders: list[Contender], results: dict[str, dict[str, Any]]) -> None:
    for contender in contenders:
        result = results[contender.key]
        for what in contender.works:
            if what in result:
                each = result[what]
                spread = (each["ns"]["upper_quartile"] - each["ns"]["lower_quartile"]) / each["ns"]["median"]
                line = f"{each['ns_per_element']:9.3f} ns per element ±{spread:4.0%} {each.get('copies', float('nan')):8.2f} copies  ({each['samples']} samples)"
                print(f"  {contender.name:36} {what:17}{line}")
        agreement = result.get("agreement", {})
        if why := result.get("unsupported") or result.get("failed") or agreement.get("objection"):
            print(f"  {contender.name:36} {'unsupported' if 'unsupported' in result else 'failed' if 'failed' in result else 'wrong answer'}: {why}")
        if agreement:
            errors = f"loss {agreement['loss_relative_error']:.1e}, gradient {agreement['gradient_max_error']:.1e}, row {agreement['gradient_row_error']:.1e}"
            print(f"  {'':36} errors: {errors}; others busy {result.get('others_busy', 0):.1%}")
