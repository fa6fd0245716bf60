"""The users for whom a model's lists are certified to be no worse than those of recent popularity.

Legend: B users.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from recmeta.tasks.arrays import BoolArray, IntArray


@dataclasses.dataclass(frozen=True, kw_only=True)
class Segment:
    """A segment: users with at least a number of rows, up to the next segment of their group."""

    fewest: int
    """The fewest known rows of these users; the segment is judged at this number."""
    value: str | None
    """Their value of the certificate's attribute. None stands for all other users, or for all
    users."""
    num_users: int
    """The number of development users on which the segment was judged."""
    advantage: float
    """Their mean nDCG@10 with the model's lists minus that with popularity's."""
    at_least: float | None
    """The one-sided lower bound of this difference at the certificate's level, or None if there are
    too few users."""
    is_certified: bool
    """Whether these users get the model's lists; otherwise they get popular items."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Certificate:
    """The comparison, on development users, of the model's lists with those of popularity."""

    level: float
    """The largest probability with which some certified segment's lists may be worse than
    popularity's by more than `tolerance`."""
    tolerance: float
    """In units of nDCG@10."""
    attribute: str | None
    """The attribute of the profile by whose values groups have segments of their own; if None,
    there is one group."""
    segments: tuple[Segment, ...]
    """The segments, group by group, and by rising numbers of rows."""
    violation_rate: float
    """The share of resamples of the development users that certify a segment whose lists, over all
    of these users, are worse by more than the tolerance."""
    border_rate: float
    """The same share if every segment were worse by exactly the tolerance, where certifying is
    wrong most often. It should not be above `level`."""
    num_resamples: int

    def holds(self, num_rows_B: IntArray, value_B: Sequence[str | None] | None) -> BoolArray:
        """Return (B,) whether each user may get the model's lists.

        Args:
            num_rows_B: numbers of known rows.
            value_B: their values of `attribute`, or None if there is no attribute.
        """
        groups = {segment.value for segment in self.segments}
        holds_B = np.zeros(len(num_rows_B), np.bool_)
        own = [None] * len(num_rows_B) if value_B is None else list(value_B)
        group_B = np.array([value if value in groups else None for value in own], object)
        for segment in self.segments:  # later ones of a group have more rows
            here_B = (group_B == segment.value) & (num_rows_B >= segment.fewest)
            holds_B[here_B] = segment.is_certified
        return holds_B

    def values(self, profile: pa.Table) -> list[str | None] | None:
        """Return users' values of `attribute` as text, with None for each one that is not known, or
        None if the certificate has no attribute."""
        if self.attribute is None:
            return None
        if self.attribute not in profile.column_names:
            return [None] * len(profile)
        found: list[str | None] = profile[self.attribute].cast(pa.string()).to_pylist()
        return found

    @property
    def is_partial(self) -> bool:
        """Whether some segment is not certified."""
        return not all(segment.is_certified for segment in self.segments)
