"""A genre is a genre, an audience is an audience: what the rule sees, and what it leaves alone."""

import pytest

from mga.expand.pair_validity import named, put_right, what_is_wrong
from mga.records import Pair

TEXTS = [
    *("A letter to farmers", "Lesson plan for small children", "Historical fiction novel", "Students' handbook"),
    *(
        "Dialogue between a teacher and a pupil",
        "Teacher's guide",
        "Interview with a scientist",
        "checklist",
        "Film script",
    ),
    *("A collection of letters by soldiers", "Parent-child conversation", "Children's book", "lists of facts"),
    *("Ein Brief eines Lehrers an seine Schüler", "Lehrerhandbuch", "Unterrichtsplan für Kinder"),
    *("Une lettre pour les enfants", "Guide du voyageur", "Carta a un joven lector", "Cuento para niños"),
    *("Письмо школьникам", "Рассказ для детей", "给小学生的一封信", "儿童故事"),
]
PEOPLE = [
    *("Geographer", "Military Historians", "Finance professionals seeking insights", "Science fiction writers"),
    *("Farmers who like letters", "A group of students", "Readers of historical novels", "Literature students"),
    *("Young adults", "People of all ages", "Data science professionals", "Biographers", "Hobbyists"),
    *("Jugendliche, die Briefe mögen", "Grundschulkinder", "Les enfants de 8 ans", "Lecteurs de romans"),
    *("Estudiantes de secundaria", "Lectores de novelas", "Школьники младших классов", "Любители рассказов"),
    *("对历史感兴趣的读者", "小学生", "podcast listeners"),
]
UNKNOWN = [
    "",
    "Dreamers interested in the history of mines",
    "Personal Growth",
    "a fictional adventure for children",
    "...",
    "Travel",
    "how the knowledge is expressed",
    "Kirje maanviljelijöille",
    "สูงอายุ",
    "7-10",
]


@pytest.mark.parametrize("side", TEXTS)
def test_a_kind_of_text_is_seen_as_one(side: str) -> None:
    assert named(side) == named(side.upper()) == "text"


@pytest.mark.parametrize("side", PEOPLE)
def test_people_are_seen_as_people(side: str) -> None:
    assert named(side) == "people"


@pytest.mark.parametrize("side", UNKNOWN)
def test_what_no_list_knows_is_left_alone(side: str) -> None:
    assert named(side) is None


def test_a_right_pair_passes_also_in_a_language_without_a_list() -> None:
    assert what_is_wrong(Pair("Letter to the editor: short and angry.", "Farmers of the valley: they know it.")) is None
    assert what_is_wrong(Pair("Kirje maanviljelijöille", "Eläkkeellä olevat insinöörit")) is None


@pytest.mark.parametrize(
    ("genre", "audience", "says"),
    [
        ("Military historians of rank", "Retired sailors", "'Military historians of rank' are people"),
        ("A documentary on sailors", "Retired sailors", "'A documentary on sailors' is made of more than words"),
        ("Ein Kurzfilm über Bienen", "Retired sailors", "is made of more than words"),
        ("A fable in verse", "A letter to sailors", "'A letter to sailors' is a text"),
        ("Fable", "Retired sailors", "'Fable' says too little as the kind of text"),
        ("A fable in verse", "sailors, sailors, sailors, sailors", "says too little as the people"),
        (
            "The quiet valley of the mill",
            "the quiet mill of the valley",
            "stands as the kind of text and as the people",
        ),
        ("The name of a form of writing, never a subject", "Retired sailors", "repeats the question"),
    ],
)
def test_what_is_wrong_is_said(genre: str, audience: str, says: str) -> None:
    task = "Give the name of a form of writing, never a subject and never a person."
    assert says in (what_is_wrong(Pair(genre, audience), task) or "")


def test_sides_that_stand_in_each_others_place_are_exchanged_and_no_others() -> None:
    assert put_right(Pair("Retired sailors", "A letter home")) == Pair("A letter home", "Retired sailors")
    for right in (Pair("A letter home", "Retired sailors"), Pair("Retired sailors", "Farmers"), Pair("Travel", "x")):
        assert put_right(right) == right
