"""A federation in Flower's simulation (Beutel et al., 2020): every user is a client of their own.

    server ──parameters──▶ client: its own task ──clipped update──▶ server: mean, noise, step

The client's half and the server's are those of
`recmeta.metalearn.algorithms.optimisation_based.federated`; Flower carries the messages, and Ray
runs the clients in processes that open one user's task each. Flower cannot be installed beside the
pipeline (its libraries' versions conflict with Airflow's and MLflow's); this file needs the core
alone, so that it runs in an environment that has only Flower: see docs/how-to/federated.md.

Legend: N clients.
"""

import dataclasses
import functools
import os
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from recmeta.errors import UserError
from recmeta.metalearn.learner import LearnsFromUpdates, Params
from recmeta.metalearn.model import Model
from recmeta.metalearn.outer_loop.optimiser import OuterOptimiser
from recmeta.metalearn.outer_loop.trainer import TrainingConfig, development_loss
from recmeta.tasks.episodes import EpisodeConfig, resample
from recmeta.tasks.task_set import Tasks, TaskSet
from recmeta.workspace import Folder

PARAMETERS, UPDATE, LOSS, EPOCH = "parameters", "update", "loss", "epoch"
CLIENT = "partition-id"
"""What Flower calls a simulated client's number."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class FlowerConfig:
    """A federation."""

    training: TrainingConfig = TrainingConfig(epochs=10)
    """The server's steps; `epochs` are the rounds that every client takes part in. It does not stop
    early."""
    episodes: EpisodeConfig = EpisodeConfig()
    """How a client splits its rows; `batch_size` is the number of clients of a round."""
    num_processes: int = 2
    """Clients that run at once."""
    seed: int = 0
    """Of the order of clients, their episodes and the noise."""


@dataclasses.dataclass(frozen=True)
class Round:
    """What one epoch brought."""

    number: int
    """From 1."""
    train_loss: float
    """Mean of what the clients report."""
    dev_loss: float
    """Of the development users, who are the server's: see
    `recmeta.metalearn.outer_loop.trainer.Epoch`."""


def simulate(model_folder: str, tasks_folder: str, config: FlowerConfig) -> list[Round]:
    """Meta-train the model in a folder by a federation of the task set's meta-training users, in
    place.

    Args:
        model_folder: of a model of the algorithm `federated`, as `Model.save` wrote it. Its
            vocabularies, scale and catalogue are what clients are given beside the parameters.
        tasks_folder: of the task set. The server opens its development users alone.

    Raises:
        UserError: without Flower, for a model of another algorithm, and where a client fails.
    """
    os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
    try:
        from flwr.serverapp import ServerApp
        from flwr.simulation import run_simulation
    except ImportError as error:
        raise UserError(
            "a federation needs Flower, in an environment of its own: "
            "pip install -r requirements-flower.txt (docs/how-to/federated.md)."
        ) from error
    folder, task_set = Folder.at(model_folder), TaskSet(Folder.at(tasks_folder))
    model = _model(folder, task_set)
    learner = _federated(model)
    num_clients = task_set.spec.num_tasks["train"]
    rounds: list[Round] = []
    server = ServerApp()

    @server.main()  # type: ignore[untyped-decorator]
    def main(grid: Any, context: Any) -> None:
        rounds.extend(_serve(grid, model, learner, task_set.tasks("dev"), num_clients, config))

    run_simulation(
        server_app=server,
        client_app=_client_app(model_folder, tasks_folder, config),
        num_supernodes=num_clients,
        backend_config={
            "init_args": {"num_cpus": config.num_processes},
            "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
        },
    )
    if len(rounds) < config.training.epochs:
        raise UserError("the federation ended early: what Flower printed above says why.")
    model.save(folder)
    return rounds


def _serve(
    grid: Any,
    model: Model,
    learner: LearnsFromUpdates,
    dev_tasks: Tasks,
    num_clients: int,
    config: FlowerConfig,
) -> Iterator[Round]:
    """Run the server: in every epoch each client takes part once, in a drawn order."""
    optimiser = OuterOptimiser(
        model.params,
        learning_rate=config.training.learning_rate,
        weight_decay=config.training.weight_decay,
        clip_norm=config.training.clip_norm,
    )
    noise = torch.Generator().manual_seed(config.seed)
    order = np.random.default_rng(config.seed)
    clients = sorted(_clients(grid, num_clients))
    for epoch in range(1, config.training.epochs + 1):
        total_loss = 0.0
        shuffled = order.permutation(num_clients)
        for start in range(0, num_clients, config.episodes.batch_size):
            called = [clients[n] for n in shuffled[start : start + config.episodes.batch_size]]
            replies = _call(grid, called, model.params, epoch)
            optimiser.step(learner.aggregate((update for update, _ in replies), noise))
            total_loss += sum(loss for _, loss in replies)
        optimiser.settle()
        dev_loss = development_loss(model, model.params, dev_tasks, config.training)
        yield Round(epoch, total_loss / num_clients, dev_loss)


def _clients(grid: Any, num_clients: int) -> list[int]:
    """Return Flower's ids of the clients, once all have come."""
    while len(found := list(grid.get_node_ids())) < num_clients:
        time.sleep(0.1)
    return found


def _call(grid: Any, clients: list[int], params: Params, epoch: int) -> list[tuple[Params, float]]:
    """Send clients the parameters, and return their updates and losses."""
    from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict

    arrays = ArrayRecord({name: _array(p) for name, p in params.items()})
    messages = [
        Message(
            content=RecordDict({PARAMETERS: arrays, EPOCH: ConfigRecord({EPOCH: epoch})}),
            dst_node_id=client,
            message_type="train",
        )
        for client in clients
    ]
    replies = sorted(grid.send_and_receive(messages), key=lambda m: m.metadata.src_node_id)
    failed = [reply.error for reply in replies if reply.has_error()]
    if failed or len(replies) < len(clients):
        raise UserError(f"{len(failed)} of {len(clients)} clients failed: {failed[:1]}")
    return [
        (_tensors(reply.content[UPDATE]), float(reply.content[LOSS][LOSS])) for reply in replies
    ]


def _client_app(model_folder: str, tasks_folder: str, config: FlowerConfig) -> Any:
    """Return what every client runs: one update, out of its own task."""
    from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
    from flwr.clientapp import ClientApp

    app = ClientApp()

    @app.train()  # type: ignore[untyped-decorator]
    def train(message: Any, context: Any) -> Any:
        number = int(context.node_config[CLIENT])
        epoch = int(message.content[EPOCH][EPOCH])
        params = _tensors(message.content[PARAMETERS])
        update, loss = client_update(
            model_folder, tasks_folder, params, config, client=number, epoch=epoch
        )
        arrays = ArrayRecord({name: _array(part) for name, part in update.items()})
        reply = RecordDict({UPDATE: arrays, LOSS: MetricRecord({LOSS: loss})})
        return Message(content=reply, reply_to=message)

    return app


def client_update(
    model_folder: str,
    tasks_folder: str,
    params: Params,
    config: FlowerConfig,
    *,
    client: int,
    epoch: int,
) -> tuple[Params, float]:
    """Return the clipped update of one client in one epoch, and its loss.

    Args:
        client: the user's number among the meta-training users.
    """
    model, tasks = _opened(model_folder, tasks_folder)
    own = tasks.take(np.array([client]))
    if config.episodes.resample:
        generator = np.random.default_rng((config.seed, epoch, client))
        own = resample(own, config.episodes, generator)
    draws = torch.Generator().manual_seed(config.seed + epoch * len(tasks) + client)
    learner = _federated(model)
    update, loss = learner.update(params, model.batch(own, salt=2 * epoch), draws)
    return learner.clipped(update), loss


@functools.lru_cache(maxsize=1)
def _opened(model_folder: str, tasks_folder: str) -> tuple[Model, Tasks]:
    """Return the model's shapes and the tasks, read once by each of Ray's processes."""
    torch.set_num_threads(1)
    task_set = TaskSet(Folder.at(tasks_folder))
    return _model(Folder.at(model_folder), task_set), task_set.tasks("train")


def _model(folder: Folder, task_set: TaskSet) -> Model:
    """Return a saved model over the task set's catalogue, whose times are those of the tasks."""
    return Model.load(folder).on(task_set.items(), task_set.statistics())


def _federated(model: Model) -> LearnsFromUpdates:
    if not isinstance(model.learner, LearnsFromUpdates):
        raise UserError(
            f"the model's algorithm is {model.config.algorithm!r}; a federation needs a model of "
            "the algorithm 'federated', whose setting `learner.algorithm` is what clients learn."
        )
    return model.learner


def _array(tensor: torch.Tensor) -> Any:
    from flwr.app import Array

    return Array(np.ascontiguousarray(tensor.detach().cpu().numpy()))


def _tensors(arrays: Any) -> Params:
    return {name: torch.from_numpy(array.numpy().copy()) for name, array in arrays.items()}
