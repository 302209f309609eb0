"""Line retrieval: the record, the prompt letter by letter, its length in tokens, and what prompts share."""

from __future__ import annotations

import hashlib
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ropewalk.evaluation.haystack_fitting import longest_fit
from ropewalk.evaluation.lines import lines_tasks
from ropewalk.evaluation.lines_draws import draw, drawn_name, drawn_number, drawn_uuid
from ropewalk.evaluation.lines_record import Record, asked_line, lines_prompt
from ropewalk.evaluation.lines_words import ADJECTIVES, NOUNS
from ropewalk.evaluation.passkey_prompt import PromptLengthError
from ropewalk.evaluation.retrieval import RetrievalTask, is_hit

LINE = re.compile(r"^line ([a-z]+-[a-z]+): REGISTER_CONTENT is <([1-9][0-9]{4})>$")


def words(text: str) -> list[str]:
    """A tokenizer of its own: words, single digits, other characters, and one start token."""
    return ["<s>", *re.findall(r"[A-Za-z]+|[0-9]|[^A-Za-z0-9]", text)]


class Numbers:
    """Numbers for words, as a model's tokens are."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.numbers: dict[str, int] = {}
        self.calls = 0

    def __call__(self, text: str) -> list[int]:
        self.calls += 1
        tokens = []
        for word in words(text):
            if word not in self.numbers:
                self.numbers[word] = len(self.texts)
                self.texts.append(word)
            tokens.append(self.numbers[word])
        return tokens

    def text(self, tokens: tuple[int, ...]) -> str:
        """What tokens stand for, without the start."""
        return "".join(self.texts[token] for token in tokens).removeprefix("<s>")


def record_of(task: RetrievalTask, numbers: Numbers) -> dict[str, str]:
    """Number by name, read from a prompt's text."""
    found = [LINE.match(line) for line in numbers.text(task.tokens).splitlines()]
    return {match[1]: match[2] for match in found if match is not None}


def test_words_are_lower_case_letters_each_once() -> None:
    for list_of_words in (ADJECTIVES, NOUNS):
        assert len(set(list_of_words)) == len(list_of_words)
        assert all(re.fullmatch(r"[a-z]+", word) for word in list_of_words)


def test_draws_are_the_same_everywhere() -> None:
    """They are part of what a result means: these were written down once."""
    assert [draw(1000, "a", i) for i in range(4)] == [742, 887, 148, 884]
    assert drawn_name("a", 1) == "steep-ring"
    assert drawn_number("a", 1) == "52887"
    assert drawn_uuid("a", 1) == "212f8b17-10fd-4ad2-afb6-75217eed8af7"


def test_the_prompt_letter_by_letter() -> None:
    record = Record(0, 0)
    one, two, three = record.lines(3)
    assert lines_prompt(record, 3, 0.5, begun=True).text == (
        "Below is a record of lines. Each line has a name, and at its end, between < and >, a number: its "
        "REGISTER_CONTENT. Remember the number of every line. After the record you are asked for one of "
        "them.\n"
        "\n"
        f"line {one.name}: REGISTER_CONTENT is <{one.number}>\n"
        f"line {two.name}: REGISTER_CONTENT is <{two.number}>\n"
        f"line {three.name}: REGISTER_CONTENT is <{three.number}>\n"
        "\n"
        f"This was the record. What is the REGISTER_CONTENT of line {two.name}? "
        f"The REGISTER_CONTENT of line {two.name} is <"
    )
    assert lines_prompt(record, 3, 0.5, begun=False).text.endswith(
        f"\n\nThis was the record. What is the REGISTER_CONTENT of line {two.name}?"
    )


def test_prompts_are_the_same_everywhere() -> None:
    texts = [
        lines_prompt(Record(seed, trial), 2000, depth, begun=True).text
        for seed, trial, depth in ((0, 0, 0.5), (0, 1, 0.5), (7, 0, 0.1))
    ]
    assert [hashlib.sha256(text.encode()).hexdigest()[:16] for text in texts] == [
        "d6afa2176bdd140c",
        "9650b838dbd098dd",
        "6b178248e7e9538f",
    ]


@settings(max_examples=60, deadline=None)
@given(st.integers(160, 4000), st.floats(0, 1), st.integers(0, 3), st.integers(0, 2**32 - 1))
def test_lengths_are_met_to_within_one_line(length: int, depth: float, trial: int, seed: int) -> None:
    numbers = Numbers()
    (task,) = [t for t in lines_tasks(numbers, [length], [depth], trial + 1, seed) if t.trial == trial]
    assert len(task.tokens) <= length
    record = record_of(task, numbers)
    longer = lines_prompt(Record(seed, trial), len(record) + 1, depth, begun=True)
    assert len(words(longer.text)) > length


@settings(max_examples=60, deadline=None)
@given(st.integers(160, 3000), st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_what_is_asked_for_stands_once_at_its_depth(length: int, depth: float, seed: int) -> None:
    numbers = Numbers()
    (task,) = lines_tasks(numbers, [length], [depth], 1, seed)
    text = numbers.text(task.tokens)
    record = record_of(task, numbers)
    assert len(record) == text.count("REGISTER_CONTENT is <"), "names are unique"
    (asked,) = re.findall(r"What is the REGISTER_CONTENT of line ([a-z-]+)\?", text)
    assert task.expected == (record[asked],)
    assert list(record).index(asked) == pytest.approx(depth * (len(record) - 1), abs=0.5)
    assert numbers.text(task.tokens[-task.distance :]).startswith(f"line {asked}: ")
    assert numbers.text(task.tokens[task.shared :]).startswith("\n\nThis was the record.")


def test_what_cells_have_in_common_begins_their_prompts() -> None:
    """All depths and lengths of a trial read one record; trials differ from its first line on."""
    tasks = lines_tasks(Numbers(), [500, 1500], [0.0, 0.5, 1.0], 2)
    assert [(t.trial, t.length, t.depth) for t in tasks] == [
        (trial, length, depth) for trial in (0, 1) for length in (500, 1500) for depth in (0.0, 0.5, 1.0)
    ]
    for trial in (0, 1):
        longest = max((t for t in tasks if t.trial == trial), key=lambda t: t.shared)
        for task in tasks:
            if task.trial == trial:
                assert task.tokens[: task.shared] == longest.tokens[: task.shared]
                assert task.shared > 0.85 * len(task.tokens)
    assert tasks[0].tokens[:120] != tasks[6].tokens[:120]
    assert len({t.expected for t in tasks}) > 8


def test_a_prompt_does_not_depend_on_what_else_is_asked_for() -> None:
    numbers = Numbers()
    many = lines_tasks(numbers, [500, 700, 1500], [0.0, 0.3, 0.9], 3)
    for task in many[::4]:
        alone = lines_tasks(numbers, [task.length], [task.depth], task.trial + 1)[-1]
        assert alone == task


def test_few_tokenizations_a_prompt() -> None:
    numbers = Numbers()
    tasks = lines_tasks(numbers, [1000, 2000, 4000], [0.1, 0.5, 0.9], 2)
    assert numbers.calls < 8 * len(tasks)


def test_too_short_a_length_is_refused_with_the_least() -> None:
    with pytest.raises(PromptLengthError, match="cannot have 40 tokens") as refusal:
        lines_tasks(Numbers(), [40], [0.5], 1)
    (least,) = (int(number) for number in re.findall(r"here is ([0-9]+)\.", str(refusal.value)))
    (task,) = lines_tasks(Numbers(), [least], [0.5], 1)
    assert len(task.tokens) == least
    with pytest.raises(PromptLengthError):
        lines_tasks(Numbers(), [least - 1], [0.5], 1)


def test_more_lines_than_names_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ropewalk.evaluation.lines.MOST_LINES", 30)
    with pytest.raises(PromptLengthError, match="names for 30 lines, and 4,000 tokens would take more"):
        lines_tasks(Numbers(), [4000], [0.5], 1)


def test_as_a_chat_the_answer_is_not_begun_and_has_room_for_the_question_said_again() -> None:
    (raw,) = lines_tasks(Numbers(), [500], [0.5], 1)
    numbers = Numbers()
    (chat,) = lines_tasks(numbers, [500], [0.5], 1, chat=True)
    assert numbers.text(chat.tokens).endswith("?")
    assert chat.answer_tokens > raw.answer_tokens


@pytest.mark.parametrize(
    ("answer", "hit"),
    [
        ("{}>\n", True),
        ("{}", True),
        (" The REGISTER_CONTENT of line torpid-kid is <{}>.", True),
        ("line 12: <{}>", True),
        ("1{}", False),
        ("{}0", False),
        ("99999>, no, <{}>", False),
        ("", False),
        ("<>", False),
    ],
)
def test_a_hit_is_the_exact_number(answer: str, hit: bool) -> None:
    (task,) = lines_tasks(Numbers(), [300], [0.5], 1)
    assert task.expected != ("99999",)
    assert is_hit(task, answer.format(task.expected[0])) is hit


@given(st.integers(1, 60), st.integers(0, 4), st.integers(0, 900), st.integers(0, 300), st.integers(0, 400))
def test_the_longest_that_fits(per: int, fixed: int, limit: int, most: int, guess: int) -> None:
    asked: list[int] = []

    def measure(n: int) -> int:
        asked.append(n)
        return 10 * fixed + per * n

    found = longest_fit(measure, limit, most, guess)
    fitting = [n for n in range(most + 1) if 10 * fixed + per * n <= limit]
    assert found == (max(fitting) if fitting else None)
    assert len(asked) == len(set(asked)) <= 8


@given(st.lists(st.integers(-3, 40), max_size=200), st.integers(0, 3000), st.integers(0, 250))
def test_counts_that_fall_now_and_then(steps: list[int], limit: int, guess: int) -> None:
    counts = [0]
    for step in steps:
        counts.append(max(0, counts[-1] + step))
    found = longest_fit(counts.__getitem__, limit, len(steps), guess)
    assert found is not None
    assert counts[found] <= limit
    assert found == len(steps) or counts[found + 1] > limit


def test_asked_lines() -> None:
    assert [asked_line(11, depth) for depth in (0, 0.1, 0.5, 0.96, 1)] == [0, 1, 5, 10, 10]
    assert asked_line(1, 0.7) == 0
