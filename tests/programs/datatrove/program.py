"""A text pipeline of datatrove, whose ranks run in actors in placement groups, beside its local executor."""

import json
import tempfile
from pathlib import Path

import ray
from datatrove.data import Document
from datatrove.executor import LocalPipelineExecutor, RayPipelineExecutor
from datatrove.pipeline.filters import LambdaFilter
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import JsonlWriter

TASKS = 3


def main() -> None:
    ray.init(num_cpus=2)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_sources(folder / "sources")
        for executor, options in (
            (LocalPipelineExecutor, {}),
            (RayPipelineExecutor, {"mem_per_cpu_gb": 0.1, "tasks_per_job": 1}),
        ):
            out = folder / executor.__name__
            executor(
                pipeline(folder / "sources", out), tasks=TASKS, logging_dir=str(out / "logs"), **options
            ).run()
        expected, ours = (
            documents(folder / "LocalPipelineExecutor"),
            documents(folder / "RayPipelineExecutor"),
        )
        assert len(expected) == 15, len(expected)
        assert ours == expected
        done = folder / "RayPipelineExecutor" / "logs" / "completions"
        assert sorted(path.name for path in done.iterdir()) == [f"{rank:05}" for rank in range(TASKS)]
    print("same:", len(ours), "documents of", TASKS, "ranks")


def write_sources(folder: Path) -> None:
    folder.mkdir()
    for number in range(TASKS):
        texts = [f"text {number} {line} " + "word " * line for line in range(10)]
        lines = [json.dumps({"text": text, "id": text[:8]}) for text in texts]
        (folder / f"{number}.jsonl").write_text("\n".join(lines))


def pipeline(sources: Path, out: Path) -> list:
    def long_enough(document: Document) -> bool:
        return len(document.text.split()) >= 8

    return [
        JsonlReader(str(sources)),
        LambdaFilter(long_enough),
        JsonlWriter(str(out / "documents"), compression=None),
    ]


def documents(folder: Path) -> list[str]:
    lines = [
        line for path in sorted(folder.glob("documents/*.jsonl")) for line in path.read_text().splitlines()
    ]
    return sorted(json.loads(line)["text"] for line in lines)


if __name__ == "__main__":
    main()
