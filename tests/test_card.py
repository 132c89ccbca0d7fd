from ptft.card import card

FACTS = {
    "name": "finetune-2030-01-02",
    "command": "ptft finetune ckpt=runs/a 'dataset.path=my reviews.csv'",
    "run": {
        "started": "2030-01-02 10:00:00 UTC",
        "seconds": 3722.0,
        "device": "cpu",
        "threads": 2,
        "git": None,
        "seed": 1234,
    },
    "data": {"path": "my reviews.csv", "fingerprint": "ab12", "rows": {"train": 10662, "valid": 1000}, "truncated": 12},
    "model": {"class": "Transformer", "parameters": 1234567, "trainable": 1234},
    "tuning": [
        {"part": "embeddings", "parameters": 64000, "rate": 0.0},
        {"part": "heads", "parameters": 130, "rate": 1.0},
    ],
    "schedule": {"name": "cosine", "warmup": 0.1},
    "scores": {"valid": {"loss": 0.5, "accuracy": 0.875}, "test": {"loss": 0.6, "accuracy": 0.85}},
    "chosen": {"split": "valid", "score": "accuracy", "step": 1200, "value": 0.875},
    "losses": [3.0, 2.0, 1.0],
    "notes": ["12 rows were\ncut at 128 tokens"],
    "lineage": [
        {"path": "runs/a/checkpoints/step-0000000100", "run_id": "11", "command": "ptft pretrain"},
        {"path": "runs/gone", "run_id": "22", "missing": "no longer there"},
    ],
    "labels": ["negative", "a|b"],
    "samples": ["a ```fence``` in the text"],
    "pictures": ["curves.png", "confusion_matrix.png"],
    "next": ["ptft predict ckpt=runs/b input=FILE", "ptft evaluate ckpt=runs/b split=test"],
}


def table(text: str, first_column: str) -> list[list[str]]:
    """The cells of the Markdown table that starts with a column."""
    lines = text.splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith(f"| {first_column} "))
    rows = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split(" | ")])
    return rows


def test_the_scores_of_each_split_stand_side_by_side():
    assert table(card(FACTS), "score") == [
        ["score", "valid", "test"],
        ["---", "--:", "--:"],
        ["loss", "0.5000", "0.6000"],
        ["accuracy", "0.8750", "0.8500"],
    ]


def test_the_card_says_which_split_chose_the_weights():
    text = card(FACTS)
    assert "The best checkpoint, step 1,200, was chosen on **valid** by accuracy (0.8750)" in text
    assert "**test** was evaluated once, at the end, and chose nothing." in text
    unchosen = card({**FACTS, "chosen": None, "scores": {"valid": {"loss": 1.0}}})
    assert "No split chose the weights: they are those of the last step; there is no score on test." in unchosen


def test_facts_are_told_in_words():
    text = card(FACTS)
    assert text.startswith("# finetune-2030-01-02\n\n```\nptft finetune ckpt=runs/a 'dataset.path=my reviews.csv'\n```\n")
    for line in (
        "- seconds: 1:02:02",
        "- seed: 1234",
        "- rows: train 10,662, valid 1,000",
        "- parameters: 1,234,567",
        "- 12 rows were cut at 128 tokens",
        "training loss `█▅▁`",
        "![confusion matrix](confusion_matrix.png)",
        "2. runs/gone (no longer there), run 22",
        "1. runs/a/checkpoints/step-0000000100 `ptft pretrain`, run 11",
    ):
        assert line in text.splitlines()
    assert "git" not in text, "what is not known is not said"


def test_data_cannot_break_the_markdown():
    text = card(FACTS)
    assert "| 1 | a\\|b |" in text
    assert "````\na ```fence``` in the text\n````" in text


def test_many_labels_are_cut_and_counted():
    text = card({"labels": [f"label {index}" for index in range(250)]})
    assert "| 99 | label 99 |" in text
    assert "label 100" not in text
    assert "and 150 more" in text


def test_sections_without_facts_are_left_out():
    assert card({"name": "short"}) == "# short\n"


def test_how_to_do_it_again_is_the_command_unless_told_otherwise():
    assert card(FACTS).count(FACTS["command"]) == 2
    assert "## Do it again\n\n```\nptft again\n```" in card({**FACTS, "reproduce": "ptft again"})
