"""Every cell as a table, whatever came out."""

from experiments.prototypes.claims import EVERYWHERE, MEDICAL
from experiments.prototypes.grid import ROUNDS
from experiments.prototypes.layout import signed, table, title, where, with_spread
from experiments.prototypes.places import LDA, LINEAR, NEAREST_MEAN, SHIPS, Approach, Results
from experiments.prototypes.until import every_round
from fl_app.grids.estimates import estimate

_HEADS = ("nearest-mean", "cosine", "lda", "fedcof")
_CONSISTENT = [LINEAR, *(Approach("consistent", head) for head in _HEADS), SHIPS]
_OTHERS = [
    *(Approach("piggyback", head) for head in _HEADS),
    *(Approach("local", head) for head in ("linear", *_HEADS)),
]
_CENTRALISED = [LINEAR._replace(trained="centralised"), SHIPS._replace(trained="centralised")]


def cells_table(results: Results) -> str:
    """Write every cell of the reading `consistent`, and the two differences that matter most."""
    differences = [f"{way} minus linear" for way in (NEAREST_MEAN, LDA)]
    head = ["data", "split", "strategy", "R", *map(str, _CONSISTENT), *differences]
    rows = []
    for place in EVERYWHERE:
        over_linear = [signed(estimate(results.differences(place, way, LINEAR))) for way in (NEAREST_MEAN, LDA)]
        rows.append([*where(place), *(with_spread(results, place, way) for way in _CONSISTENT), *over_linear])
    text = "## Every cell, reading consistent\n\nAccuracy, and its standard deviation over the seeds.\n\n"
    return text + table(head, rows)


def readings_table(results: Results) -> str:
    """Write every cell of the other two readings."""
    head = ["data", "split", "strategy", "R", *(f"{way.reading}: {way.head}" for way in _OTHERS)]
    rows = [[*where(place), *(with_spread(results, place, way) for way in _OTHERS)] for place in EVERYWHERE]
    return "## Every cell, the other readings\n\n" + table(head, rows)


def curve_table(results: Results) -> str:
    """Write the accuracy after every round of the part `rounds`."""
    rows = [[str(place.round), *(with_spread(results, place, way) for way in _CONSISTENT)] for place in every_round()]
    return f"## Every round: {title(every_round()[0])}\n\n" + table(["R", *map(str, _CONSISTENT)], rows)


def medical_table(results: Results) -> str:
    """Write accuracy and AUC of all heads on the medical set, beside the centralised run."""
    rows = []
    for number in ROUNDS:
        place = MEDICAL._replace(round=number)
        for way in (*_CONSISTENT, *_CENTRALISED):
            accuracy, auc = with_spread(results, place, way), with_spread(results, place, way, "auc")
            rows.append([str(number), str(way), accuracy, auc])
    return f"## {title(MEDICAL)}, 5 nodes\n\n" + table(["R", "head", "accuracy", "AUC"], rows)
