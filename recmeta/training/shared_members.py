"""Members that several trainings share: a search over the inner loop of MAML on a base trains the
base once."""

from recmeta.config import fingerprint, to_dict
from recmeta.training.config import MetaTrainConfig
from recmeta.training.start import TrainedMembers

OF_THE_LEARNER_ALONE = ("episodes", "training", "last_layer_ridge")
OF_THE_LEARNERS_MODEL_ALONE = ("network", "learner", "num_negatives")
"""What a configuration says of a learner alone: its members have their own. Its start is none of
these, since members take over the weighted factorisation that a learner has started from."""


class SharedMembers:
    """The members that were trained last for each learner."""

    def __init__(self) -> None:
        self._trained: dict[str, tuple[str, TrainedMembers]] = {}

    def of(self, config: MetaTrainConfig) -> TrainedMembers | None:
        """Return the members of a configuration, or None if they are yet to be trained."""
        key, members = self._trained.get(config.model.algorithm, ("", None))
        return members if key == self._key(config) else None

    def keep(self, config: MetaTrainConfig, members: TrainedMembers) -> None:
        """Keep a configuration's members, and forget those that its learner had before."""
        self._trained[config.model.algorithm] = self._key(config), members

    @staticmethod
    def _key(config: MetaTrainConfig) -> str:
        """Return the fingerprint of everything that may decide the members. What a later version
        adds to a configuration is part of it until somebody says otherwise."""
        plain = to_dict(config)
        for name in OF_THE_LEARNER_ALONE:
            del plain[name]
        for name in OF_THE_LEARNERS_MODEL_ALONE:
            del plain["model"][name]
        return fingerprint(plain)
