"""The projects whose released code is audited, and in words what is odd about their figures."""

from benchmarks.accuracy.record.released.checkout import Project

MELU_EPOCHS = 20
"""As the project's options.py has it; a CPU minute each."""
ENOUGH = 20
"""Query rows of a user of whom precision@10 says something."""

PROJECTS = (
    Project(
        name="HIRE",
        repository="https://github.com/FangShuheng/HIRE",
        commit="45b658e8defca75019c46b3241c9e34ee2913bc6",
        reason="Its test puts a user's items in the predicted order and then calls "
        "`random.shuffle` on that list (`train_eval.py`; its validation does not). The list is a "
        "tensor, whose rows are views: a place is given the item of an earlier place, and that "
        "place keeps it. So what is predicted best is listed several times, the nDCG of a perfect "
        "list is above 1, and MAP and nDCG of a good one are too high. The mask of what is scored "
        "holds the ratings that the network was given, too: `data_loader.py` sets it for support "
        "and query alike, so that a network that repeats them is paid for it. And every user of a "
        "context is scored, of whom 31 are not the cold user whom it was drawn for; that is not "
        "in the figures here. Scored like that, item means with the user's bias that repeat what "
        "they were shown are above what the paper's table has for HIRE. Corrected: the cold user's "
        "own row, what was shown left out, in the "
        "predicted order. Training the network itself takes hours without a GPU and was not "
        "repeated.",
    ),
    Project(
        name="RecBole-MetaRec",
        repository="https://github.com/nuster1128/RecBole-MetaRec",
        commit="12ae2080566e93cac3a3a4cfa9472f8cb32e4e41",
        reason="Its collector takes the five of a user's ten query items that `torch.topk` puts "
        "first by rating as the relevant ones; among equal ratings, which most are, the order of "
        "the rows decides, and an item as well liked as a relevant one counts as a miss. As five "
        "of ten are relevant, precision and recall are one number, the hit rate is 1.0 for nearly "
        "every list, and a random list has a precision of 0.5. The table for MovieLens 100K that "
        "the project showed, and removed in June 2022, had 0.5345 for MeLU: with 58 cold users the "
        "standard error of a random list is 0.022: it cannot be told from one. Its MeLU with "
        "second-order gradients (`getTaskGrad`) multiplies by I − H where the derivative of a step "
        "is I − αH: the inner rate α is missing; the table was made with the first-order variant. "
        "Corrected: precision counts an item as a hit as long as the five best ratings have its "
        "rating left, and nDCG takes the ratings themselves as gains.",
    ),
    Project(
        name="TaNP",
        repository="https://github.com/IIEdm/TaNP",
        commit="994f2a2e305bbee8ce10cccbf158811600be49ff",
        within="TaNP",
        reason="Its scorer compares ratings, which is sound, but at ten a user with ten query rows "
        "has 1.0 for any order. Corrected: precision and MAP at ten of users with at least "
        f"{ENOUGH} query rows. What the scorer cannot show: the users set aside for validation "
        "are never read, the test users are scored after every epoch, and which epoch is reported "
        "is not said; and by the released loader a user enters the network as a number of the "
        "user's own, whose weights for cold users stay as they were drawn: nothing trains them.",
    ),
    Project(
        name="MeLU",
        repository="https://github.com/hoyeoplee/MeLU",
        commit="f70c8ff91471193cd598bc241c6b0f22665f6375",
        reason="No evaluation is released. What is: `load_state_dict` copies the adapted weights "
        "into the network before the query and the first ones back after it, so that the gradient "
        "of the query's loss ends at the adapted weights, and the second-order part of the "
        "paper's equation is missing; and by the time of that gradient the weights are the first "
        "ones again, which PyTorch 1.1 does not notice, and later versions refuse. Here its model "
        "and its global update learn as under PyTorch 1.1, from the filtered warm users of "
        "`melu-ml1m`, seed 0, and adapt to that protocol's cold users; `as released` is what the "
        "paper publishes for MeLU-5, `corrected` what its code gives under the number of epochs "
        f"named (its options have {MELU_EPOCHS}).",
    ),
)
"""MeLU, whose audit trains it, last."""
