"""What is printed when the demo is over."""

from __future__ import annotations

from rich.console import Console

from headrace.console.screen import model_line, reply_table
from headrace.demo.page import pairs_table
from headrace.demo.result import DemoResult

#: Label, keys of the figures, format.
FIGURES = (
    ("events", "events", "{:,}"),
    ("events/s", "events_per_s", "{:,.0f}"),
    ("requests", "requests", "{:,}"),
    ("replies", "replies", "{:,}"),
    ("reply p50 / p99", ("reply_p50_ms", "reply_p99_ms"), "{:.0f} / {:.0f} ms"),
    ("first reply after", "first_reply_s", "{:.1f} s"),
    ("click rate, our lists", ("ctr_ours", "ctr_ours_last"), "{:.1%}, last third {:.1%}"),
    ("click rate, popular list", ("ctr_popularity", "ctr_popularity_last"), "{:.1%}, last third {:.1%}"),
    ("our click rate / that of the popular list", "ratio", "{:.2f}"),
    (
        "of the best possible clicks",
        ("best_share_ours", "best_share_popularity"),
        "our lists {:.0%}, popular list {:.0%}",
    ),
    (
        "new items in our lists",
        ("new_share_ours", "new_ctr_ours", "not_new_ctr_ours"),
        "{:.1%} of the slots, click rate {:.1%} (other items {:.1%})",
    ),
    ("largest lag", "max_lag_s", "{:.1f} s"),
    (
        "LightGBM",
        ("ranker_version", "rankers", "ranked_replies"),
        "{} (trained {} times, ranked {:,} replies)",
    ),
    ("dead letters", "dead_letters", "{}"),
)


def show_result(out: Console, result: DemoResult) -> None:
    """Print the list of one user with its reasons, the figures, and whether the loop worked."""
    if result.example is not None:
        who, reply, titles = result.example
        out.print()
        out.print(reply_table(reply, "", titles), end="")
        out.print(who, style="dim", markup=False)
        out.print(model_line(reply), style="dim", markup=False)
    rows = []
    for name, keys, form in FIGURES:
        values = [result.figures.get(k) for k in ((keys,) if isinstance(keys, str) else keys)]
        if all(v is not None for v in values):
            rows.append((name, form.format(*values)))
    out.print()
    out.print(pairs_table(rows))
    if result.details:
        out.print(result.details, style="dim", markup=False)
    if result.problem:
        out.print(f"It did not work: {result.problem}", style="bold red", markup=False, soft_wrap=True)
    else:
        out.print("The loop works: trained from the log, ranked, every request answered.", style="bold green")
