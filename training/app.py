"""The Celery application: queues and schedule. Imports no torch."""

from __future__ import annotations

from celery import Celery

from training.settings import TrainingSettings

ATTEND_SECONDS = 10.0
"""How often the training worker shows that it takes tasks."""


def make(settings: TrainingSettings) -> Celery:
    """Queues ``training`` (long) and ``control`` (the schedule's ticks); results are in the registry."""
    made = Celery("heed", broker=settings.broker_url, include=["training.tasks"])
    tick = settings.tick_seconds
    made.conf.update(
        task_ignore_result=True,
        task_acks_late=True,
        task_reject_on_worker_lost=False,  # a lost round is found by the schedule, under its lease
        worker_prefetch_multiplier=1,
        task_serializer="json",
        accept_content=["json"],
        task_default_queue="control",
        task_routes={f"heed.{task}": {"queue": "training"} for task in ("round", "attend", "canaries")},
        broker_connection_retry_on_startup=True,
        broker_transport_options={"visibility_timeout": 3600},
        worker_hijack_root_logger=True,
        worker_send_task_events=False,
        beat_max_loop_interval=1,
        beat_schedule={
            name: {"task": f"heed.{name}", "schedule": every, "options": {"expires": every}}
            for name, every in (
                ("archive", tick),
                ("consider", tick),
                ("review", tick),
                ("attend", ATTEND_SECONDS),
                ("forget", 2 * tick),
                ("canaries", 30 * tick),
                ("compact", 300 * tick),
                ("retain", 300 * tick),
            )
        },
    )
    return made


app = make(TrainingSettings())
