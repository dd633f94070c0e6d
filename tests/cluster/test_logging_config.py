"""What a program, its tasks and its actors log with a LoggingConfig."""

import json

import pytest

from tests.support.clients import run_program
from tests.support.sandbox import Sandbox

pytestmark = pytest.mark.xdist_group("logging_config")

PROGRAM = """
import logging, sys
import aktis

config = aktis.LoggingConfig(encoding=sys.argv[1], log_level="INFO", additional_log_standard_attrs=["name"])
aktis.init(num_cpus=1, logging_config=config)


def level_and_log(text):
    logging.getLogger("app").debug("too quiet")
    try:
        raise KeyError("odd")
    except KeyError:
        logging.getLogger("app").info(text, exc_info=text == "task", extra={"place": 7})
    return logging.getLogger().getEffectiveLevel()


@aktis.remote
def task():
    return level_and_log("task")


@aktis.remote
class Actor:
    def work(self):
        return level_and_log("actor")


assert level_and_log("driver") == logging.INFO
actor = Actor.options(name="the actor").remote()
assert aktis.get(actor.work.remote()) == logging.INFO
actor_id = actor._actor_id.hex()
aktis.kill(actor)
assert aktis.get(task.remote()) == logging.INFO
context = aktis.get_runtime_context()
aktis.shutdown()
print(context.get_job_id(), context.get_node_id(), context.get_worker_id(), actor_id)
"""


def test_every_record_says_where_it_comes_from(sandbox: Sandbox) -> None:
    finished = run_program(sandbox, PROGRAM, "JSON")
    assert finished.returncode == 0, finished.stderr
    job, node, driver, actor = finished.stdout.split()[-4:]
    text = finished.stdout + finished.stderr
    found = [json.loads(line[line.index("{") :]) for line in text.splitlines() if '"asctime"' in line]
    records = {record["message"]: record for record in found}
    assert set(records) == {"driver", "task", "actor"}
    for record in found:
        assert (record["job_id"], record["node_id"]) == (job, node)
        assert (record["name"], record["place"], record["levelname"]) == ("app", 7, "INFO")
        assert record["timestamp_ns"] > 0
    assert records["driver"]["worker_id"] == driver
    assert "task_id" not in records["driver"]
    assert records["task"]["task_name"] == records["task"]["task_func_name"] == "task"
    assert "KeyError: 'odd'" in records["task"]["exc_text"]
    assert "exc_text" not in records["actor"]
    assert (records["actor"]["actor_id"], records["actor"]["actor_name"]) == (actor, "the actor")
    assert records["actor"]["task_func_name"] == "work"


def test_lines_for_people_have_the_same(sandbox: Sandbox) -> None:
    finished = run_program(sandbox, PROGRAM, "TEXT")
    assert finished.returncode == 0, finished.stderr
    job = finished.stdout.split()[-4]
    text = finished.stdout + finished.stderr
    (line,) = [line for line in text.splitlines() if " -- driver " in line]
    assert " INFO " in line
    assert f"name=app job_id={job} " in line
    (line,) = [line for line in text.splitlines() if " -- task " in line]
    assert "task_func_name=task" in line
    assert "KeyError: 'odd'" in text
    assert "too quiet" not in text
