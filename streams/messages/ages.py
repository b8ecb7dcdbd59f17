"""Age groups: what is counted of a user's age."""

from __future__ import annotations

from bisect import bisect_right

#: Where the next group begins, years. Group 0 is an unknown age, group 1 is below the first of these.
AGE_GROUPS = (18, 25, 35, 45, 55, 65)
#: Number of groups, with that of an unknown age.
N_GROUPS = len(AGE_GROUPS) + 2


def age_group(years: int | None) -> int:
    """Return the group of an age, 1 to 7; 0 for an unknown one (None, or below 0)."""
    return 0 if years is None or years < 0 else bisect_right(AGE_GROUPS, years) + 1


def group_name(group: int) -> str:
    """Return a group in words, such as "18 to 24"; empty for an unknown one."""
    if not group:
        return ""
    if group == 1:
        return f"under {AGE_GROUPS[0]}"
    if group > len(AGE_GROUPS):
        return f"{AGE_GROUPS[-1]} and older"
    return f"{AGE_GROUPS[group - 2]} to {AGE_GROUPS[group - 1] - 1}"
