"""Fitting a model to a data set in memory, without a workspace or a registry; no file is written.

>>> import recmeta
>>> from recmeta.testing.synthetic import SyntheticConfig, generate
>>> log = generate(SyntheticConfig(num_users=60, num_items=30, rows_per_user=(5, 12)), seed=0)
>>> data = recmeta.Dataset.from_frame(log.interactions, items=log.items, users=log.users)
>>> recmeta.fit(data, learner="maml", seed=1, epochs=1, progress=False)
Recommender(maml, 30 items)
>>> recmeta.fit(data, learner="mamal")
Traceback (most recent call last):
recmeta.errors.UserError: there is no learner 'mamal'. Did you mean 'maml'? ...
"""

from recmeta.api import origin as origins
from recmeta.api.configuration import Config, configured
from recmeta.api.data.dataset import Dataset, check_data
from recmeta.api.data.frames import FrameT
from recmeta.api.load import model_folder
from recmeta.api.origin import Origin
from recmeta.api.recommender import Recommender
from recmeta.errors.causes import noted
from recmeta.metalearn.model import Model
from recmeta.metalearn.outer_loop.trainer import Epoch
from recmeta.reporting.progress_bars import shown_progress
from recmeta.training.device import choose_device
from recmeta.training.fit import fit_whole
from recmeta.training.start import at_start
from recmeta.workspace import MemoryFolder

TRAINING = "meta-train"


@noted()
def fit(
    data: Dataset[FrameT],
    learner: str | None = None,
    *,
    seed: int | None = None,
    epochs: int | None = None,
    config: Config | None = None,
    recipe: str = "default",
    device: str = "auto",
    processes: int = 1,
    progress: bool = True,
) -> Recommender[FrameT]:
    """Return a model that is meta-trained on a data set.

    It is, to the last bit, the model that `recmeta run` trains on the same rows with the same
    configuration, seed and number of threads.

    A hash of their ids divides the users into training, development and cold test users. The model
    learns from the training users, and the development users choose epochs and hyperparameters. The
    model never sees the cold test users, on whom `evaluate` measures it.

    Args:
        data: a log in memory.
        learner: a name such as `maml` or `bayesian-linear` (docs/learners.md lists them), the name
            of a learner of another package, or `package.module:Class`. It is trained by its own
            recipe. If None, the configuration names the learner, or else the recipe does so for
            this kind of feedback.
        seed: the seed of splits, training and evaluation. If None, it is the configuration's,
            which is 0 by default.
        epochs: the most passes over the training users. If None, it is the configuration's.
        config: a `MetaTrainConfig`, a `PipelineConfig`, nested tables of the values that differ
            from the recipe's, or the path of a TOML file with such; see `recmeta run --config`.
        recipe: the named configuration that all other arguments override.
        device: `cpu`, `cuda`, or `auto`, which is CUDA where there is a GPU.
        processes: the number of processes of this machine that share the training. They train the
            model that one process trains, up to rounding; see docs/scale.md.
        progress: whether to show progress on standard error or in the notebook.

    Raises:
        UserError: if `data` is not a `Dataset`, a learner or an option is unknown, the log is too
            small to hold users out, or training diverges.
    """
    check_data(data)
    chosen = configured(config, learner=learner, seed=seed, epochs=epochs, recipe=recipe)
    torch_device = choose_device(device)
    folder = MemoryFolder()
    with shown_progress(shown=progress) as show:
        task_set = data.task_set(chosen.tasks, show)
        how = chosen.training_for(task_set.spec.objective)
        num_epochs = how.training.epochs
        source = None
        if how.content_from is not None:
            source = Model.load(model_folder(how.content_from))
        begun = at_start(how, task_set, torch_device, source=source)

        def on_epoch(epoch: Epoch) -> None:
            show(TRAINING, epoch.number, num_epochs)

        def on_refit(epoch: Epoch, num_epochs: int) -> None:
            show("refit", epoch.number, num_epochs)

        def on_member(algorithm: str, num_epochs: int, epoch: Epoch) -> None:
            show(algorithm, epoch.number, num_epochs)

        done = fit_whole(
            how, begun, task_set, folder, on_epoch, on_refit, on_member, processes=processes
        )
        show(TRAINING, num_epochs, num_epochs)
    # As a model is read from a workspace: with the present items, and without the state of
    # training.
    done.model.save(folder)
    return Recommender(
        Model.load(folder, torch_device),
        origin=Origin(
            tasks=chosen.tasks,
            evaluate=chosen.evaluate,
            data=data.fingerprint,
            columns=data.columns,
            kind=data.kind,
        ),
        seen=origins.seen_by(task_set),
    )
