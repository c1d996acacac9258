"""What every raters' queue promises."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import replace

import redis

from feedback import keys
from feedback.rating import MOST_ITEMS, Item, Offer, Option, RatingQueue, about, item_id
from feedback.rating_queue import RedisRatingQueue

LONG = 600.0


def item(name: str, doubt: float = 0.0, author: str = "s-author") -> Item:
    prompt = ({"role": "system", "content": "Be kind."}, {"role": "user", "content": name})
    return Item(name, prompt, (Option("yes", "base"), Option("no", "a-1")), doubt, author)


def taken(queue: RatingQueue, rater: str, overlap: int = 9, life: float = LONG) -> str | None:
    found = queue.take("heed", rater, overlap, life)
    return None if found is None else found[0]


def test_the_most_doubted_item_comes_first_and_comes_whole(rating_queue: RatingQueue) -> None:
    every = [item("calm", 0.1), item("doubted", 2.5), item("middling", 1.0)]
    rating_queue.fill("heed", every, 2)
    assert rating_queue.take("heed", "ann", 2, LONG) == ("doubted", every[1])
    assert [taken(rating_queue, "ann") for _ in range(3)] == ["middling", "calm", None]
    assert rating_queue.take("other", "ann", 2, LONG) is None


def test_no_rater_sees_an_item_twice_also_when_the_queue_is_filled_anew(rating_queue: RatingQueue) -> None:
    for _ in range(2):
        rating_queue.fill("heed", [item("a", 1.0), item("b")], 2)
        assert taken(rating_queue, "ann") in {"a", "b"}
    assert taken(rating_queue, "ann") is None


def test_an_item_is_offered_to_as_many_as_the_overlap_says(rating_queue: RatingQueue) -> None:
    rating_queue.fill("heed", [item("a")], 2)
    assert [taken(rating_queue, name, overlap=2) for name in ("ann", "bob", "eve")] == ["a", "a", None]
    assert taken(rating_queue, "eve", overlap=3) == "a"


def test_an_offer_that_nobody_answers_comes_back_for_others_only(rating_queue: RatingQueue) -> None:
    rating_queue.fill("heed", [item("a")], 2)
    assert taken(rating_queue, "ann", overlap=1, life=2.0) == "a"
    assert taken(rating_queue, "bob", overlap=1) is None
    time.sleep(2.1)
    assert taken(rating_queue, "ann", overlap=1) is None
    assert taken(rating_queue, "bob", overlap=1) == "a"


def test_an_answered_offer_is_counted_for_ever_and_tells_what_was_shown(rating_queue: RatingQueue) -> None:
    rating_queue.fill("heed", [item("a")], 2)
    assert taken(rating_queue, "ann", overlap=1, life=0.1) == "a"
    shown = Offer("a", "a-1", "ann", {"r-left": 1, "r-right": 0})
    rating_queue.note("cmpr-1", shown, LONG)
    found = rating_queue.offered("cmpr-1")
    assert found == shown
    for _ in range(2):
        rating_queue.settle("heed", found)
    time.sleep(0.15)
    assert taken(rating_queue, "bob", overlap=1) is None
    assert shown.order([["r-right"], ["r-left"]]) == ((0,), (1,))
    assert shown.order([["r-left", "r-right"]]) == ((0, 1),)


def test_an_answer_to_nothing_that_was_offered_is_none(rating_queue: RatingQueue) -> None:
    assert rating_queue.offered("cmpr-9") is None
    rating_queue.note("cmpr-1", Offer("a", "a-1", "ann", {}), 0.05)
    time.sleep(0.1)
    assert rating_queue.offered("cmpr-1") is None
    rating_queue.settle("heed", Offer("a", "a-1", "ann", {}))
    assert rating_queue.take("heed", "bob", 1, LONG, ["a"]) == ("a", None)


def test_an_item_that_is_added_stands_behind_the_others_and_replaces_none(rating_queue: RatingQueue) -> None:
    rating_queue.fill("heed", [item("a", 1.0)], 2)
    fresh = replace(item("a"), options=(Option("other", "base"), Option("words", "base")))
    assert rating_queue.add("heed", fresh) == item("a", 1.0)
    assert rating_queue.add("heed", item("b")) == item("b")
    assert [taken(rating_queue, "ann") for _ in range(3)] == ["a", "b", None]


def test_chosen_ids_need_not_stand_in_the_queue(rating_queue: RatingQueue) -> None:
    rating_queue.fill("heed", [item("b", 1.0)], 2)
    assert rating_queue.take("heed", "ann", 1, LONG, ["x", "b"]) == ("x", None)
    assert rating_queue.take("heed", "ann", 1, LONG, ["x", "b"]) == ("b", item("b", 1.0))
    assert rating_queue.take("heed", "ann", 1, LONG, ["x", "b"]) is None
    assert rating_queue.take("heed", "bob", 1, LONG, ["x"]) is None
    assert rating_queue.take("heed", "bob", 1, LONG, []) is None


def test_raters_at_once_share_the_overlap_exactly(rating_queue: RatingQueue) -> None:
    rating_queue.fill("heed", [item(str(n), n) for n in range(10)], 2)
    offered: list[tuple[str, str]] = []

    def rate(rater: str) -> None:
        while (name := taken(rating_queue, rater, overlap=3)) is not None:
            offered.append((rater, name))

    raters = [threading.Thread(target=rate, args=(f"rater {n}",)) for n in range(8)]
    for one in raters:
        one.start()
    for one in raters:
        one.join()
    assert len(set(offered)) == len(offered)
    assert Counter(name for _, name in offered) == {str(n): 3 for n in range(10)}


def test_forgetting_drops_what_somebody_asked_and_what_it_saw(rating_queue: RatingQueue) -> None:
    rating_queue.fill("heed", [item("a", 2.0, "ann"), item("b", 1.0, "bob")], 2)
    assert taken(rating_queue, "ann", overlap=1) == "a"
    rating_queue.forget(["heed"], "ann")
    assert taken(rating_queue, "eve", overlap=1) == "b"
    assert taken(rating_queue, "ann", overlap=1) is None
    assert rating_queue.take("heed", "ann", 1, LONG, ["a"]) == ("a", None)


def test_the_queue_is_bounded_and_the_least_doubted_go(rating_queue: RatingQueue) -> None:
    rating_queue.fill("heed", [item(f"{n:04d}", 1.0 + n) for n in range(MOST_ITEMS + 5)], 2)
    rating_queue.add("heed", item("fresh"))
    names = set()
    while (name := taken(rating_queue, "ann")) is not None:
        names.add(name)
    assert names == {f"{n:04d}" for n in range(5, MOST_ITEMS + 5)}


def test_a_prompt_has_one_name_whatever_guidelines_stood_before_it() -> None:
    said = ({"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"})
    assert item_id(said) == item_id(({"role": "system", "content": "Be kind."}, *said))
    assert item_id(said) != item_id(said[:1])
    assert about(["b", "a"]) == about(["a", "b"]) != about(["a", "c"])


def test_keys_are_those_of_the_list_and_what_names_raters_ends(store: redis.Redis) -> None:
    queue = RedisRatingQueue(store)
    queue.fill("heed", [item("a")], 2)
    queue.take("heed", "ann", 1, LONG)
    queue.note("cmpr-1", Offer("a", "a-1", "ann", {}), LONG)
    named = {keys.rated("heed", "ann"), keys.offers("heed", "a"), keys.offer("cmpr-1")}
    assert {key.decode() for key in store.scan_iter()} == named | {keys.ranking("heed"), keys.items("heed")}
    assert all(store.pttl(key) > 0 for key in named)


def test_what_was_begun_stays_the_same_until_enough_have_answered(rating_queue: RatingQueue) -> None:
    def other(name: str) -> Item:
        return replace(item(name, 5.0), options=(Option("new", "base"), Option("newer", "base")))

    rating_queue.fill("heed", [item("begun", 3.0), item("alone", 2.0), item("asked")], 2)
    assert taken(rating_queue, "ann") == "begun"
    rating_queue.settle("heed", Offer("begun", "begun-1", "ann", {}))
    rating_queue.fill("heed", [other("begun"), other("alone")], 2)
    assert rating_queue.take("heed", "bob", 2, LONG) == ("alone", other("alone"))
    assert rating_queue.take("heed", "bob", 2, LONG) == ("begun", item("begun", 3.0))
    assert taken(rating_queue, "bob") is None
    rating_queue.settle("heed", Offer("begun", "begun-1", "bob", {}))
    rating_queue.fill("heed", [other("begun")], 2)
    assert rating_queue.take("heed", "eve", 9, LONG) == ("begun", other("begun"))


def test_an_item_is_named_by_its_prompt_and_its_replies() -> None:
    assert item("a", 1.0).name == item("a", 2.0, "other").name
    assert item("a").name.startswith("a-")
    assert item("a").name != replace(item("a"), options=(Option("no", "base"), Option("yes", "base"))).name
