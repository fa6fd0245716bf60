"""The families of meta-learning that the learners belong to, by which pictures group them."""

FAMILY_OF: dict[str, str] = {
    "maml": "optimisation",
    "maml-median": "optimisation",
    "fomaml": "optimisation",
    "anil": "optimisation",
    "meta-sgd": "optimisation",
    "reptile": "optimisation",
    "implicit-maml": "optimisation",
    "meta-lstm": "optimisation",
    "melu-published": "optimisation",
    "mamo": "memory",
    "bayesian-linear": "closed form",
    "bayesian-linear-text": "closed form",
    "weighted-ridge": "closed form",
    "transfer-frozen": "transfer",
    "transfer-fine-tuned": "transfer",
    "matching": "metric",
    "prototypical": "metric",
    "film": "learned strategy",
    "selector": "learned strategy",
    "transformer-np": "model",
    "snail": "model",
    "prior-fitted": "model",
    "latent-np": "generative",
    "conditional-vae": "generative",
    "adversarial": "generative",
    "federated": "federated",
}
OTHER = "other"


def family_of(learner: str) -> str:
    """Return the family of a learner; `other` for one that this file does not know."""
    return FAMILY_OF.get(learner, OTHER)


# Panels of a picture: small families share one.
PANELS: dict[str, tuple[str, ...]] = {
    "optimisation": ("optimisation",),
    "transfer and federated": ("transfer", "federated"),
    "metric and learned strategy": ("metric", "learned strategy"),
    "model, memory and generative": ("model", "memory", "generative"),
    "closed form": ("closed form",),
    OTHER: (OTHER,),
}
"""Titles of panels, and the families in each."""
