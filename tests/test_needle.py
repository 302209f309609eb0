"""Needles in a haystack: where sentences go in, what is drawn, prompts and their lengths, what is a hit."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ropewalk.evaluation.haystack import Haystack, HaystackTooShortError, repeated
from ropewalk.evaluation.haystack_sentences import MOST_CHARACTERS, sentence_starts
from ropewalk.evaluation.needle import INTRODUCTION, haystack_of, needle_tasks
from ropewalk.evaluation.needle_draws import NeedleCell, NothingToDrawError, draw_needles
from ropewalk.evaluation.needle_form import NeedleFormError, needle_form
from ropewalk.evaluation.passkey_prompt import PromptLengthError
from ropewalk.evaluation.phrases import find_phrase
from ropewalk.evaluation.retrieval import RetrievalTask, is_hit
from test_lines import Numbers, words

STORY = "\n\n".join(
    " ".join(f"In year {n}.{k} the {w} of the village went to sea, and came back." for k in range(n % 5 + 1))
    for n, w in enumerate(["baker", "tailor", "smith", "miller", "fiddler", "ropemaker"] * 14)
)


def count(text: str) -> int:
    """Tokens of a part, without the start token."""
    return len(words(text)) - 1


def story(text: str = STORY) -> Haystack:
    """The haystack of most tests."""
    return Haystack("story.txt", text, count)


_STORY = story()  # which remembers its counts


def tasks_of(
    numbers: Numbers,
    form: dict[str, Any] | None = None,
    *,
    haystack: Haystack = _STORY,
    lengths: Sequence[int] = (600,),
    depths: Sequence[float] = (0.5,),
    trials: int = 1,
    seed: int = 0,
    chat: bool = False,
) -> list[RetrievalTask]:
    """Tasks on the story."""
    made = needle_form(**(form or {}))
    return needle_tasks(made, haystack, numbers, lengths, depths, trials=trials, seed=seed, chat=chat)


def pieces(text: str) -> list[str]:
    """A text between the places where sentences begin."""
    places = sentence_starts(text)
    return [text[a:b].strip() for a, b in pairwise(places)]


class TestSentences:
    @pytest.mark.parametrize(
        ("text", "sentences"),
        [
            ("It rains. It pours!  Does it?\nYes.", ["It rains.", "It pours!", "Does it?", "Yes."]),
            (
                "Mr. Smith and Dr. A. B. Jones met. They spoke.",
                ["Mr. Smith and Dr. A. B. Jones met.", "They spoke."],
            ),
            (
                '"Stop!" he said. (He did.) "Why?" Nobody knew.',
                ['"Stop!" he said.', "(He did.)", '"Why?"', "Nobody knew."],
            ),
            (
                "A heading\n\nA text without\na full stop\n \nAnother",
                ["A heading", "A text without\na full stop", "Another"],
            ),
            (
                "It costs 3.50 or 1,000.00 vs. nothing. 12 of them",
                ["It costs 3.50 or 1,000.00 vs. nothing.", "12 of them"],
            ),
            ("雨が降る。風が吹く！「本当？」はい。", ["雨が降る。", "風が吹く！", "「本当？」", "はい。"]),
            ("Il pleut… Élodie rit. Это дождь. Да.", ["Il pleut…", "Élodie rit.", "Это дождь.", "Да."]),
            ("One", ["One"]),
            ("  \n ", []),
            ("", []),
        ],
    )
    def test_where_they_begin(self, text: str, sentences: list[str]) -> None:
        assert pieces(text) == sentences

    @given(st.text(alphabet=" \n\t.!?…。aAbB1\"'”)(", max_size=400))
    def test_places_rise_and_nothing_is_lost(self, text: str) -> None:
        places = sentence_starts(text)
        assert list(places) == sorted(set(places))
        if not text.strip():
            assert places == ()
            return
        assert text[: places[0]].strip() == "" and text[places[-1] :].strip() == ""
        for place in places[:-1]:
            assert not text[place].isspace()
            assert place == places[0] or text[place - 1].isspace() or text[place - 1] in "。”)"

    @pytest.mark.parametrize("line", ["x = f(y)", "word", "a;b;c;d"])
    def test_long_runs_are_cut_at_lines_or_words(self, line: str) -> None:
        for joint in ("\n", " "):
            places = sentence_starts(joint.join([line] * 3000))
            gaps = [b - a for a, b in pairwise(places)]
            assert max(gaps) <= MOST_CHARACTERS
            assert min(gaps[:-1]) > MOST_CHARACTERS / 2
            assert all(place % (len(line) + 1) == 0 for place in places[:-1])

    def test_runs_without_any_space_are_cut(self) -> None:
        text = f"A b. {'0123456789' * 500} {' ' * 5000}C d."
        places = sentence_starts(text)
        assert max(b - a for a, b in pairwise(places) if not text[a:b].endswith("  ")) <= MOST_CHARACTERS
        numbers = Numbers()
        haystack = story(text=";" * 20_000)
        (task,) = tasks_of(numbers, haystack=haystack, lengths=[3000], depths=[0.5])
        assert 2000 <= len(task.tokens) <= 3000 and 600 < task.distance < 2000

    def test_no_text_takes_long(self) -> None:
        """Runs without end of one kind: what looks back over them would take hours."""
        for run in (
            "." * 200_000,
            " " * 200_000,
            "\n" * 200_000,
            "a" * 200_000,
            "字" * 200_000,
            '."' * 100_000,
        ):
            assert len(sentence_starts(f"A. {run} B.\n\n{run}\nC")) < 1000


class TestHaystack:
    @settings(max_examples=25, deadline=None)
    @given(st.floats(0, 1), st.integers(0, 1000))
    def test_the_nearest_place(self, share: float, end: int) -> None:
        haystack = _STORY
        end = min(end, haystack.last)
        found = haystack.place_at(share, end)
        wanted = share * haystack.tokens_before(end)
        distances = [abs(haystack.tokens_before(place) - wanted) for place in range(end + 1)]
        assert distances[found] == min(distances)

    def test_it_is_found_by_few_counts_in_any_text(self) -> None:
        counted: list[str] = []

        def counting(text: str) -> int:
            counted.append(text)
            return count(text)

        uneven = STORY + " " + " ".join("A " + "b" * 60 + "." for _ in range(500)) + "\n\n" + STORY
        haystack = Haystack("uneven", uneven, counting)
        haystack.place_at(0.37, haystack.last)
        assert len(counted) < 20

    @given(
        st.lists(st.tuples(st.integers(0, 40), st.sampled_from(["One is one.", "Two is two."])), max_size=5)
    )
    def test_sentences_go_in_and_all_else_stays(self, insertions: list[tuple[int, str]]) -> None:
        haystack = story(text=STORY[:4000])
        text, starts = haystack.with_sentences(insertions, 30)
        for (_, sentence), start in zip(insertions, starts, strict=True):
            assert text[start:].startswith(sentence)
            assert start == 0 or text[start - 1].isspace()
        bare = text
        for start, (_, sentence) in sorted(zip(starts, insertions, strict=True), reverse=True):
            bare = bare[:start] + bare[start + len(sentence) :]
        assert bare.split() == haystack.part(0, 30).split()
        if not insertions:
            assert text == haystack.part(0, 30).rstrip()

    def test_a_sentence_between_paragraphs_is_one(self) -> None:
        haystack = story(text="One. Two.\n\nThree.")
        assert haystack.with_sentences([(2, "New.")], 3)[0] == "One. Two.\n\nNew.\n\nThree."
        assert haystack.with_sentences([(1, "New.")], 3)[0] == "One. New. Two.\n\nThree."
        assert haystack.with_sentences([(0, "New.")], 3)[0] == "New. One. Two.\n\nThree."
        assert haystack.with_sentences([(9, "New.")], 3)[0] == "One. Two.\n\nThree. New."

    def test_phrases(self) -> None:
        text = "The  Dolores\nPark is green."
        assert find_phrase(text, "dolores park") == 5
        assert find_phrase(text, "reen") is None
        assert find_phrase(text, "green.") == text.index("green")
        assert find_phrase("It is (x+1).", "(x+1)") == 6
        assert find_phrase("密码是苹果。", "苹果") == 3, "a script that sets no words apart"
        assert find_phrase("Au cafe\u0301.", "caf\u00e9") == 3, "an accent written either way"


class TestPrompts:
    def test_letter_by_letter(self) -> None:
        numbers = Numbers()
        haystack = story(text="It rains. It pours. It blows. It snows.")
        (task,) = tasks_of(numbers, haystack=haystack, lengths=[104], depths=[0.5])
        text = numbers.text(task.tokens)
        (key, value) = re.findall(r"The access code of ([a-z-]+) is ([0-9]{5})\.", text)[0]
        assert text == (
            "Read the text below. After it you are asked about something that it says.\n\n"
            f"It rains. It pours. The access code of {key} is {value}. It blows. It snows.\n\n"
            f"What is the access code of {key}? The access code of {key} is"
        )
        assert task.expected == (value,)
        assert task.rule == "first-number"

    @settings(max_examples=25, deadline=None)
    @given(
        st.integers(300, 6000),
        st.floats(0, 1),
        st.sampled_from(
            [{}, {"needles": 4}, {"values": 3}, {"n_distractors": 5}, {"value_kind": "uuids", "needles": 2}]
        ),
        st.integers(0, 2**32 - 1),
    )
    def test_lengths_are_met_to_within_one_sentence(
        self, length: int, depth: float, form: dict[str, Any], seed: int
    ) -> None:
        numbers = Numbers()
        (task,) = tasks_of(numbers, form, lengths=[length], depths=[depth], seed=seed)
        longest = max(count(piece) for piece in pieces(STORY)) + 2
        assert length - longest - 4 < len(task.tokens) <= length

    @settings(max_examples=25, deadline=None)
    @given(st.integers(300, 6000), st.floats(0, 1), st.integers(0, 1), st.integers(0, 1000))
    def test_the_needle_lies_at_its_depth(self, length: int, depth: float, trial: int, seed: int) -> None:
        numbers = Numbers()
        task = tasks_of(numbers, lengths=[length], depths=[depth], trials=trial + 1, seed=seed)[-1]
        text = numbers.text(task.tokens)
        body = text.removeprefix(f"{INTRODUCTION}\n\n").rsplit("\n\n", 1)[0]
        (fact,) = re.findall(r"The access code of [a-z-]+ is [0-9]{5}\.", body)
        before, after = (count(part.strip()) for part in body.split(fact))
        assert before / (before + after) == pytest.approx(depth, abs=20 / (before + after))
        assert numbers.text(task.tokens[-task.distance :]).startswith(fact)
        assert task.shared == len(task.tokens) - task.distance
        (value,) = task.expected
        assert fact.endswith(f" {value}.") and text.count(value) == 1
        assert text.endswith(" is") and text.count("What is the access code of") == 1

    def test_cells_of_a_length_read_the_same_up_to_their_needles(self) -> None:
        numbers = Numbers()
        for form in ({}, {"needles": 5}, {"values": 3}):
            tasks = tasks_of(numbers, form, lengths=[3000], depths=[0.2, 0.6, 1.0], trials=3)
            longest = max(tasks, key=lambda task: task.shared)
            if form != {"needles": 5}:
                assert all(task.tokens[: task.shared] == longest.tokens[: task.shared] for task in tasks)
            for a in tasks:
                for b in tasks:
                    if a.depth == b.depth:
                        assert a.tokens[: a.shared] == b.tokens[: b.shared]

    def test_distractors_are_common_to_the_depths_of_a_trial(self) -> None:
        numbers = Numbers()
        form = {"n_distractors": 4}
        first, second = tasks_of(numbers, form, lengths=[3000], depths=[0.3, 0.9])
        assert first.tokens[: first.shared] == second.tokens[: first.shared]
        assert {numbers.text(first.tokens).count(word) for word in ("room number", "serial number")} == {1}

    def test_prompts_are_the_same_everywhere(self) -> None:
        digests = []
        for form in ({}, {"needles": 3}, {"values": 2, "n_distractors": 3}, {"key_kind": "uuids"}):
            numbers = Numbers()
            tasks = tasks_of(numbers, form, lengths=[500, 1500], depths=[0.1, 0.9], trials=2, seed=3)
            text = "|".join(numbers.text(task.tokens) for task in tasks)
            digests.append(hashlib.sha256(text.encode()).hexdigest()[:16])
        assert digests == [
            "13456ccf75c2caa5",
            "bb75c08ac178859a",
            "520af4060ef417b0",
            "0236e9af70c662e7",
        ]

    def test_a_prompt_does_not_depend_on_what_else_is_asked_for(self) -> None:
        numbers = Numbers()
        form = {"needles": 3, "n_distractors": 2, "value_kind": "words"}
        many = tasks_of(numbers, form, lengths=[700, 1500], depths=[0.0, 0.3, 0.9], trials=2)
        for task in many[1::3]:
            alone = tasks_of(numbers, form, lengths=[task.length], depths=[task.depth], trials=task.trial + 1)
            assert alone[-1] == task

    def test_few_tokenizations_a_prompt(self) -> None:
        numbers = Numbers()
        tasks = tasks_of(numbers, lengths=[1000, 2000, 4000], depths=[0.1, 0.5, 0.9], trials=3)
        assert numbers.calls < 6 * len(tasks)

    def test_trials_differ(self) -> None:
        tasks = tasks_of(Numbers(), lengths=[500, 900], depths=[0.1, 0.5], trials=5)
        assert len({task.expected for task in tasks}) == len(tasks)

    def test_too_short_a_length(self) -> None:
        with pytest.raises(PromptLengthError, match="cannot have 20 tokens") as refusal:
            tasks_of(Numbers(), lengths=[20])
        (least,) = map(int, re.findall(r"least here is ([0-9]+)\.", str(refusal.value)))
        (task,) = tasks_of(Numbers(), lengths=[least])
        assert len(task.tokens) == least

    def test_too_short_a_haystack_names_its_tokens(self) -> None:
        haystack = story(text="It rains. " * 100)
        with pytest.raises(HaystackTooShortError) as refusal:
            tasks_of(Numbers(), haystack=haystack, lengths=[5000])
        assert f"story.txt has {count('It rains. ' * 100) - 1:,} tokens" in str(refusal.value)
        (most,) = re.findall(r"at most ([0-9,]+),", str(refusal.value))
        (task,) = tasks_of(Numbers(), haystack=haystack, lengths=[int(most.replace(",", ""))])
        assert f"{len(task.tokens):,}" == most

    def test_a_repeated_haystack_is_long_enough(self) -> None:
        text = "It rains in spring. It blows in autumn.\n"
        haystack = haystack_of("rain.txt", text, count, 5000, repeat=True)
        (task,) = tasks_of(Numbers(), haystack=haystack, lengths=[5000])
        assert 4980 < len(task.tokens) <= 5000
        assert haystack_of("rain.txt", text, count, 5000, repeat=False).last == 2
        assert haystack_of("story.txt", STORY, count, 500, repeat=True).text == STORY
        assert repeated(" a\n", 3) == "a\n\na\n\na"

    def test_as_a_chat_the_answer_is_not_begun(self) -> None:
        numbers = Numbers()
        (chat,) = tasks_of(numbers, chat=True)
        (raw,) = tasks_of(Numbers())
        assert re.search(r"\n\nWhat is the access code of [a-z]+-[a-z]+\?$", numbers.text(chat.tokens))
        assert chat.answer_tokens > raw.answer_tokens


class TestForms:
    def test_a_fact_of_ones_own(self) -> None:
        numbers = Numbers()
        form: dict[str, Any] = {
            "fact": "The best thing to do in San Francisco is to eat a sandwich in Dolores Park.",
            "question": "What is the best thing to do in San Francisco?",
            "answers": ["eat a sandwich", "Dolores Park"],
        }
        (task,) = tasks_of(numbers, form)
        text = numbers.text(task.tokens)
        assert text.endswith("\n\nWhat is the best thing to do in San Francisco?\nAnswer:")
        assert text.count(form["fact"]) == 1
        assert task.rule == "all-words"
        assert is_hit(task, " Eat  a sandwich, in dolores park!")
        assert not is_hit(task, " eat a sandwich")
        assert not is_hit(task, " eat a sandwich in Dolores Parks")

    def test_a_question_that_is_none_is_gone_on_from(self) -> None:
        numbers = Numbers()
        form = {"fact": "The cat is called {value}.", "question": "The cat is called", "value_kind": "words"}
        (task,) = tasks_of(numbers, form)
        assert numbers.text(task.tokens).endswith("\n\nThe cat is called")
        assert re.fullmatch(r"[a-z]+-[a-z]+", task.expected[0])
        assert is_hit(task, f" {task.expected[0].upper()}.")

    def test_a_number_of_ones_own_must_come_first(self) -> None:
        form = {"fact": "There were 42 sheep.", "question": "How many sheep were there?", "answers": ["42"]}
        (task,) = tasks_of(Numbers(), form)
        assert task.rule == "first-number"
        assert [is_hit(task, answer) for answer in (" 42.", " 142", " 43 or 42", " 1. 42")] == [
            True,
            False,
            False,
            True,
        ]

    def test_several_needles_have_keys_of_their_own(self) -> None:
        numbers = Numbers()
        (task,) = tasks_of(numbers, {"needles": 6}, lengths=[2000])
        text = numbers.text(task.tokens)
        found = dict(re.findall(r"The access code of ([a-z-]+) is ([0-9]{5})\.", text))
        assert len(found) == len(set(found.values())) == 6
        (asked,) = re.findall(r"What is the access code of ([a-z-]+)\?", text)
        assert task.expected == (found[asked],)

    def test_several_values_are_all_asked_for_and_the_first_lies_at_the_depth(self) -> None:
        numbers = Numbers()
        (task,) = tasks_of(numbers, {"values": 4, "needles": 3}, lengths=[3000], depths=[0.4])
        text = numbers.text(task.tokens)
        (asked,) = re.findall(r"What are all the access codes of ([a-z-]+) that", text)
        values = re.findall(rf"One of the access codes of {asked} is ([0-9]{{5}})\.", text)
        assert sorted(task.expected) == sorted(values)
        assert len(set(values)) == 4
        assert task.rule == "all-numbers"
        first = text.index(f"One of the access codes of {asked}")
        assert numbers.text(task.tokens[-task.distance :]) == text[first:]
        assert first / len(text) == pytest.approx(0.4, abs=0.05)
        assert is_hit(task, " " + ", ".join(task.expected))
        assert is_hit(task, " and ".join(reversed(task.expected)))
        assert is_hit(task, f" 1. {task.expected[2]}, {', '.join(task.expected)}; and 99998?")
        assert not is_hit(task, ", ".join(task.expected[:3]))
        assert not is_hit(task, ", ".join(["99998", *task.expected])), "all numbers of the text are no answer"
        assert not is_hit(task, ", ".join(f"{value}0" for value in task.expected))
        assert task.answer_tokens >= count(", ".join(task.expected)) + 8

    def test_distractors_are_about_the_same_key(self) -> None:
        numbers = Numbers()
        (task,) = tasks_of(numbers, {"n_distractors": 8}, lengths=[2000])
        text = numbers.text(task.tokens)
        (asked,) = re.findall(r"What is the access code of ([a-z-]+)\?", text)
        numbers_said = re.findall(rf"{asked}[a-z, ]* (?:is|was) ([0-9]{{5}})\.", text)
        assert len(numbers_said) == len(set(numbers_said)) == 9
        assert task.expected[0] in numbers_said

    def test_distractors_of_ones_own_take_turns(self) -> None:
        numbers = Numbers()
        form = {
            "fact": "Anna has {value} apples.",
            "question": "Anna has this many apples:",
            "distractors": ["Ben has {value} apples.", "Anna likes pears."],
            "n_distractors": 3,
        }
        text = numbers.text(tasks_of(numbers, form, lengths=[1000])[0].tokens)
        assert len(re.findall(r"Ben has [0-9]{5} apples\.", text)) == 2
        assert text.count("Anna likes pears.") == 1

    def test_what_the_haystack_says_is_not_drawn(self) -> None:
        cell = NeedleCell(500, 0.5, 0, 0)
        free = draw_needles(needle_form(), cell, lambda _: False)
        other = draw_needles(needle_form(), cell, lambda drawn: drawn in free.expected)
        assert other.question == free.question and other.expected != free.expected
        (value,) = free.expected
        text = STORY[:5000] + f" It was {value} then."
        (task,) = tasks_of(Numbers(), haystack=story(text=text))
        assert task.expected != free.expected
        with pytest.raises(NothingToDrawError, match="so many words"):
            draw_needles(needle_form(), cell, lambda _: True)

    def test_braces_can_be_written(self) -> None:
        numbers = Numbers()
        form = {"fact": "The set {{a}} has {value} elements.", "question": "The set {{a}} has how many?"}
        assert "The set {a} has " in numbers.text(tasks_of(numbers, form)[0].tokens)

    @pytest.mark.parametrize(
        ("form", "message"),
        [
            ({"question": "What?"}, "give --fact"),
            ({"answers": ["x"]}, "give --fact"),
            ({"fact": "A is b."}, "give --question"),
            ({"fact": "A is b.", "question": "What is a?"}, "give --answer"),
            ({"fact": "A is {valeu}.", "question": "What is a?"}, r"\{valeu\}"),
            ({"fact": "A is {value}.", "question": "Is a {value}?"}, "gives the answer away"),
            ({"fact": "A is b.", "question": "What is {key}?", "answers": ["b"]}, "into both"),
            (
                {"fact": "A is b.", "question": "What is b?", "answers": ["b"]},
                "--question says the answer itself",
            ),
            (
                {"fact": "A is b.", "question": "What is a?", "answers": ["b"], "distractors": ["B is c."]},
                "--distractor says the answer itself",
            ),
            ({"fact": "A is b.", "question": "What?", "answers": ["b"], "needles": 2}, "--needles 2 .*{key}"),
            ({"fact": "A is b.", "question": "What?", "answers": ["b"], "values": 2}, "--values 2 .*{value}"),
            ({"fact": "{key} is {value}.", "question": "What?", "needles": 2}, "into --question"),
            (
                {"fact": "A is {value}.", "question": "What?", "answers": ["c"], "values": 2},
                "leave --answer out",
            ),
            ({"fact": "A is {value}.", "question": "What?", "n_distractors": 2}, "give --distractor"),
            ({"fact": " ", "question": "What?", "answers": ["c"]}, "--fact is empty"),
            ({"fact": "A is b.", "question": "", "answers": ["b"]}, "--question is empty"),
            (
                {"fact": "{key} is {value}.", "question": "What is {key}?", "answers": ["{key}"]},
                "leave it out",
            ),
        ],
    )
    def test_what_does_not_go_together(self, form: dict[str, Any], message: str) -> None:
        with pytest.raises(NeedleFormError, match=message):
            needle_form(**form)
