"""Stop strings that lie across a seam, character by character."""

from relay.stop_strings import StopStrings


def add(stops: StopStrings, text: str) -> tuple[str, str | None]:
    return stops.add(text, enough=True, last=False, stop=None)


def test_what_could_become_a_stop_string_is_held_back() -> None:
    stops = StopStrings(["END"], include=False)

    assert ("abc", None) == add(stops, "abcEN")
    assert ("EN", None) == add(stops, "xy")


def test_a_stop_string_that_begins_on_one_engine_and_ends_on_the_next_is_found() -> None:
    stops = StopStrings(["END"], include=False)
    first = add(stops, "abcE")

    stops.leg_begins()
    second = add(stops, "NDzz")

    assert ("ab", None) == first
    assert ("c", "END") == second


def test_a_stop_string_over_three_chunks_and_a_seam_is_found_once_whole() -> None:
    stops = StopStrings(["<stop>"], include=True)
    add(stops, "text <s")

    stops.leg_begins()

    assert ("to", None) == add(stops, "to")
    assert ("p>", "<stop>") == add(stops, "p>more")


def test_before_enough_tokens_nothing_stops() -> None:
    stops = StopStrings(["ab"], include=True)
    add(stops, "xa")
    stops.leg_begins()

    assert ("b", None) == stops.add("b", enough=False, last=False, stop=None)


def test_the_engines_own_stop_string_is_cut_off_at_the_end() -> None:
    stops = StopStrings(["e", "END"], include=False)
    add(stops, "abc")

    assert ("bc d", None) == stops.add(" dEND", enough=True, last=True, stop="END")


def test_what_is_wholly_on_one_engine_is_left_to_it() -> None:
    stops = StopStrings(["ab"], include=True)
    add(stops, "xy")
    stops.leg_begins()

    assert ("ab", None) == add(stops, "ab")
