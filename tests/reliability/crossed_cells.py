"""The cells in which the coverage of the crossed interval is proved.

The constants of the interval were chosen on other settings (populations, tables and seeds); see
docs/evidence.md.
"""

from tests.reliability.simulated_studies import Cell

SMALL = {
    "60 rows, most of the pool": Cell(60, 0.6, second="random features", codes=20, population=511),
    "60 rows, 12 labels": Cell(60, 12, features=10, population=512),
    "60 rows at 75:25": Cell(60, 20, largest=0.75, population=513),
    "60 rows, R²": Cell(60, 20, measure="R²", population=514),
    "60 rows, logistic": Cell(60, 20, probe="logistic", population=515),
}
"""Tables with fewer than 100 rows, whose limits are wider."""

CELLS = {
    "120 rows": Cell(120, 40, features=10, codes=5, own=0.3, population=521),
    "240 rows, 10 labels": Cell(240, 10, own=0.7, population=522),
    "240 rows, 40 labels, random features": Cell(
        second="random features", codes=30, separation=2.5, population=523
    ),
    "240 rows, most of the pool": Cell(labels=0.6, own=0.3, population=524),
    "240 rows, whole pool": Cell(labels=1, population=525),
    "240 rows, 6 seeds, 2 subsets": Cell(seeds=6, subsets=2, population=526),
    "240 rows, 30 seeds": Cell(seeds=30, own=0.4, population=527),
    "240 rows, new codes for each seed": Cell(second="new codes", population=528),
    "240 rows, neighbours": Cell(probe="neighbours", population=529),
    "500 rows, 5 classes, heavy tails": Cell(
        500, 100, classes=5, separation=1.5, tails=4, codes=12, population=531
    ),
    "400 rows, 20 classes": Cell(400, 0.6, classes=20, separation=3.0, codes=15, population=532),
    "2000 rows, 20 classes": Cell(2000, 200, classes=20, separation=3.0, codes=15, population=533),
    "1000 rows, 40 labels": Cell(1000, 40, own=0.6, population=534),
    "1000 rows, most of the pool": Cell(
        1000, 0.6, second="random features", features=10, codes=10, population=535
    ),
    "5000 rows, 100 labels": Cell(5000, 100, features=8, codes=4, population=536),
    "5000 rows, half the pool": Cell(5000, 0.5, features=8, codes=4, population=537),
    "70:30": Cell(largest=0.7, own=0.3, population=541),
    "90:10, 240 rows, 40 labels": Cell(largest=0.9, separation=2.5, population=542),
    "90:10, 240 rows, 80 labels": Cell(
        labels=80, largest=0.9, second="random features", codes=20, separation=3.0, population=543
    ),
    "90:10, 240 rows, small penalty": Cell(
        labels=50, largest=0.9, penalty=1.0, features=15, separation=3.0, population=544
    ),
    "90:10, 500 rows": Cell(
        500, 0.5, largest=0.9, second="random features", codes=25, separation=2.5, population=545
    ),
    "90:10, 1000 rows": Cell(1000, 100, largest=0.9, own=0.3, separation=2.5, population=546),
    "90:10, logistic": Cell(
        labels=50, largest=0.9, probe="logistic", penalty=4.0, separation=3.0, population=547
    ),
    "balanced accuracy, 90:10": Cell(largest=0.9, measure="balanced accuracy", population=551),
    "balanced accuracy, 5 classes, largest 60 %": Cell(
        500, 60, classes=5, largest=0.6, measure="balanced accuracy", separation=2.0, population=552
    ),
    "balanced accuracy, 80:20, balanced draws": Cell(
        labels=24, largest=0.8, measure="balanced accuracy", draws="balanced", population=553
    ),
    "AUC": Cell(measure="AUC", own=0.4, population=554),
    "AUC, 500 rows at 90:10": Cell(500, 60, largest=0.9, measure="AUC", population=555),
    "R²": Cell(measure="R²", labels=60, population=556),
    "R², heavy tails": Cell(500, 50, measure="R²", tails=5, population=557),
    "logistic": Cell(probe="logistic", population=558),
    "logistic, 1000 rows": Cell(1000, 100, probe="logistic", features=8, codes=4, population=559),
    "groups of 1 to 50": Cell(labels=0.6, groups="uniform", features=10, codes=5, population=561),
    "groups of 1 to 50, mixed classes": Cell(
        labels=100, groups="uniform", has_group_classes=False, features=10, codes=5, population=562
    ),
    "groups, lognormal": Cell(labels=40, groups="lognormal", group_share=0.3, population=563),
    "24 groups of 10": Cell(labels=40, groups="equal", num_groups=24, population=564),
    "12 groups, mixed classes": Cell(
        labels=40, groups="equal", num_groups=12, has_group_classes=False, population=565
    ),
    "groups, AUC": Cell(
        labels=40, groups="lognormal", num_groups=50, measure="AUC", population=566
    ),
    "groups, R²": Cell(labels=60, groups="uniform", num_groups=40, measure="R²", population=567),
}

NO_GAIN = {
    "equal sensors": Cell(second="twin", population=571),
    "equal sensors, 5 classes": Cell(
        300, 60, classes=5, second="twin", features=10, separation=1.5, population=572
    ),
    "permuted labels": Cell(is_permuted=True, second="linear code", population=573),
    "noise": Cell(separation=1e-6, second="random features", codes=10, population=574),
}
"""Cells whose true gain is zero."""

CLOSE = {
    "linear code, 40 labels": Cell(second="linear code", population=581),
    "linear code, most of the pool": Cell(labels=0.6, second="linear code", population=582),
}
"""Cells whose representations differ little. Intervals are too wide there, as the guide says."""
