"""The view of a W&B project, as the spec that its server would get."""

from rl_grads.tracking import wandb_view

METRICS = (
    "clip/update/angle",
    "evaluation/length",
    "evaluation/return",
    "gradient/norm",
    "loss/td_error_abs",
    "training/return",
)


def spec():
    project = wandb_view.Project("team", "walks")
    made = wandb_view.view(project, "the order of reading", METRICS)
    return made._spec["spec"]["section"]


def test_sections_stand_in_the_order_of_reading():
    sections = spec()["panelBankConfig"]["sections"]
    assert [(one["name"], one["isOpen"]) for one in sections] == [
        ("evaluation", True),
        ("training", True),
        ("loss", True),
        ("gradient", True),
        ("clip", False),
    ]


def test_every_metric_has_a_plot_over_environment_steps():
    sections = spec()["panelBankConfig"]["sections"]
    panels = [panel for one in sections for panel in one["panels"]]
    assert {panel["viewType"] for panel in panels} == {"Run History Line Plot"}
    configs = [panel["config"] for panel in panels]
    assert {config["xAxis"] for config in configs} == {"env_steps"}
    assert [config["metrics"] for config in configs] == [
        ["evaluation/return"],
        ["evaluation/length"],
        ["training/return"],
        ["loss/td_error_abs"],
        ["gradient/norm"],
        ["clip/update/angle"],
    ]


def test_what_else_the_project_has_is_shown_as_well():
    settings = spec()["settings"]
    assert settings["shouldAutoGeneratePanels"] is True
    assert settings["xAxis"] == "env_steps"
    # Sections by the first slash; 2 would be the last.
    assert spec()["panelBankConfig"]["settings"]["autoOrganizePrefix"] == 1
