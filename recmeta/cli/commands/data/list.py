"""data list: what can be fetched."""

from recmeta.cli.command import Command
from recmeta.cli.commands.data.fetch import CacheOption
from recmeta.cli.options import CommonOptions
from recmeta.cli.output import Outcome


def list_data_sets(common: CommonOptions, cache: CacheOption = None) -> Outcome:
    """List the data sets that can be fetched, and their licences."""
    from recmeta.logs.fetching.datasets import DATASETS, default_cache
    from recmeta.reporting.markdown import table

    folder = cache or default_cache()
    found = [
        {
            "name": name,
            "ratings": sum(dataset.histogram.values()),
            "fetched": (folder / name).exists(),
            "page": dataset.page,
            "licence": dataset.licence,
        }
        for name, dataset in DATASETS.items()
    ]
    rows = [
        [str(d["name"]), f"{d['ratings']:,}", "yes" if d["fetched"] else "no", str(d["licence"])]
        for d in found
    ]
    text = table(["name", "ratings", "fetched", "licence"], rows)
    return Outcome(data={"datasets": found}, text=text)


COMMAND = Command(list_data_sets, examples="recmeta data list", after="fetch")
