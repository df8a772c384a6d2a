"""The command that certifies."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from twonines.cli.display import needs
from twonines.cli.options import DatasetName, Root
from twonines.errors import SettingsError


def certify(
    model: Annotated[Path, typer.Argument(help="The model file.")],
    dataset: DatasetName,
    out: Annotated[Path, typer.Option(help="The certified model to write.")],
    root: Root = None,
    alpha: Annotated[float, typer.Option(help="Highest escape rate.")] = 0.01,
    delta: Annotated[float, typer.Option(help="1 - confidence.")] = 0.05,
    independent: Annotated[
        bool,
        typer.Option(
            help="The whole set certifies; it had no part in teaching. Else the model's own "
            "calibration split does."
        ),
    ] = False,
    execution_provider: Annotated[
        Literal["all", "cpu", "openvino"],
        typer.Option(help="Where the certificate holds; all takes what this machine has."),
    ] = "all",
    rule: Annotated[
        list[str] | None,
        typer.Option(help="CLASS:review=LIMIT,reject=LIMIT,severity=FACTOR; may be repeated."),
    ] = None,
    min_defect_area: Annotated[
        float | None,
        typer.Option(help="NG with smaller regions (share of the picture) goes to a person."),
    ] = None,
    cost_escape: Annotated[float | None, typer.Option(help="Cost of one escape.")] = None,
    cost_overkill: Annotated[float | None, typer.Option(help="Cost of one overkill.")] = None,
    cost_review: Annotated[float | None, typer.Option(help="Cost of one review.")] = None,
    prevalence: Annotated[
        float | None, typer.Option(help="Share of defective parts on the line, for the costs.")
    ] = None,
) -> None:
    """Bound the escape rate.

    The model then says OK only where alpha holds with confidence 1 - delta.
    """
    try:
        from twonines.benchmarks.certify import Options, parse_rule
        from twonines.benchmarks.certify import certify as run
        from twonines.datasets.registry import load_dataset
        from twonines.models.costs import Costs
    except ImportError as exc:
        raise needs("bench", exc) from exc
    prices = (cost_escape, cost_overkill, cost_review, prevalence)
    given = [price for price in prices if price is not None]
    if given and len(given) < len(prices):
        raise SettingsError(
            "cost_escape, cost_overkill, cost_review and prevalence: must all be given or none, "
            f"got {len(given)} of 4"
        )
    try:
        costs = Costs(*given) if given else None
    except ValueError as exc:
        raise SettingsError(str(exc)) from exc
    options = Options(
        alpha=alpha,
        delta=delta,
        independent=independent,
        providers=execution_provider,
        costs=costs,
        rules=dict(map(parse_rule, rule)) if rule else None,
        min_defect_area=min_defect_area,
    )
    result = run(model, load_dataset(dataset, root), out, options)
    found, policy = result.certificate, result.card.policy
    typer.echo(f"certificate {found.digest}: {found.statement}")
    typer.echo(
        f"OK below {policy.accepts_below:.4g}, NG from {policy.threshold:.4g}, "
        "in between a person decides"
    )
    for name, metric in (
        ("overkill", found.overkill),
        ("review of good parts", found.review_good),
        ("review of defective parts", found.review_defective),
    ):
        if metric:
            typer.echo(
                f"{name:26s} {metric.value:.4f}  [{metric.low:.4f}, {metric.high:.4f}]  "
                f"n={metric.n}"
            )
    typer.echo(f"holds on {', '.join(found.execution_providers)}; {len(found.watch)} cuts watched")
    typer.echo(f"model: {result.model}")
