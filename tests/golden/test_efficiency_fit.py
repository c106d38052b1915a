"""The fitted numbers of the catalogue are those that the fits end at."""

from sizing.efficiency import EfficiencyTable, efficiency_table, use_table
from tools.efficiency_file import EFFICIENCY, LAUNCH_KEYS, LAUNCHES_LIKE, with_factors, with_intervals
from tools.fit_efficiency import EVERY, SMALLEST_STEP, Search, catalogue_table
from tools.fit_intervals import fitted, held_ratio, interval
from tools.speed_series import series_rows


def test_no_smallest_step_of_a_factor_explains_the_series_better() -> None:
    table = efficiency_table()
    try:
        search = Search(catalogue_table(), series_rows()[::EVERY])

        assert 0 == search.sweep(SMALLEST_STEP)
    finally:
        use_table(table)


def test_writing_the_factors_of_the_catalogue_into_it_changes_nothing() -> None:
    text = EFFICIENCY.read_text(encoding="utf-8")

    assert text == with_factors(text, catalogue_table())


def test_families_without_series_launch_as_their_neighbour_does() -> None:
    families = {family.name: family for family in efficiency_table().families}

    for name, like in LAUNCHES_LIKE.items():
        assert [getattr(families[like], key) for key in LAUNCH_KEYS] == [
            getattr(families[name], key) for key in LAUNCH_KEYS
        ]


def test_the_intervals_of_the_catalogue_are_those_of_the_fitting_half() -> None:
    text = EFFICIENCY.read_text(encoding="utf-8")

    assert text == with_intervals(text, fitted()), "run `python -m tools.fit_intervals`"


def test_an_interval_is_as_wide_as_a_source_that_did_not_help_needs() -> None:
    # Ten sources of one row each, spread evenly from a tenth slower to a tenth faster than stated.
    spread = {str(number): [(number - 4.5) / 45] for number in range(10)}

    low, high = interval(spread)

    # Without its outermost two the rest holds eight of ten: the second smallest and the second largest.
    assert 0.8 <= held_ratio(spread, 0.1) or low < 0.93
    assert 0.9 <= low <= 0.93 and 1.07 <= high <= 1.11


def test_a_source_with_many_rows_weighs_as_much_as_one_with_one() -> None:
    few = {"a": [0.0], "b": [0.1], "c": [0.2]}
    many = {"a": [0.0] * 50, "b": [0.1], "c": [0.2]}

    assert interval(few) == interval(many)


def test_the_table_with_one_family_less_is_still_a_table() -> None:
    assert EfficiencyTable.model_validate(catalogue_table()) == efficiency_table()
