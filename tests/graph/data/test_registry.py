import inspect

import pytest

from spikewright.errors import ConfigError, DatasetMissing
from spikewright.graph.data import graph_loader, graph_names, load_graph

ON_DISK = {
    "folder": "train.txt",
    "wn18rr": "folder 'wn18rr'",
    "fb15k-237": "folder 'fb15k-237'",
    "fb237_v3": "'fb237_v3_ind'",
    "WN18RR_v4": "'WN18RR_v4_ind'",
    "cora": "ind.cora.graph",
    "citeseer": "ind.citeseer.graph",
}


@pytest.mark.parametrize("name", sorted(ON_DISK))
def test_a_graph_with_files_says_which_it_needs(name, tmp_path):
    with pytest.raises(DatasetMissing, match=f"'{name}' was asked for without a data_dir") as error:
        load_graph(name)
    assert ON_DISK[name] in str(error.value)
    with pytest.raises(DatasetMissing, match=r"there is nothing at .*/nowhere") as error:
        load_graph(name, tmp_path / "nowhere")
    assert ON_DISK[name] in str(error.value)
    (tmp_path / "plain").touch()
    with pytest.raises(DatasetMissing, match="there is a file at"):
        load_graph(name, str(tmp_path / "plain"))
    with pytest.raises(DatasetMissing, match="holds 1 entries: plain"):
        load_graph(name, tmp_path)


def test_a_leading_tilde_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(DatasetMissing, match=f"looks for train.* in {tmp_path}"):
        load_graph("folder", "~")


def test_every_name_has_an_inspectable_loader():
    assert ON_DISK.keys() <= set(graph_names()) and len(graph_names()) == 18
    for name in graph_names():
        parameters = inspect.signature(graph_loader(name)).parameters
        assert ("data_dir" in parameters) == (name != "family")
        assert all(option.annotation is not inspect.Parameter.empty for option in parameters.values())


def test_unknown_names_and_options_get_the_nearest(tmp_path):
    with pytest.raises(ConfigError, match=r"'nation' is unknown\. Did you mean 'nations'"):
        load_graph("nation")
    with pytest.raises(ConfigError, match=r"'family' has no option 'sed'\. Did you mean 'seed'"):
        load_graph("family", sed=1)
    with pytest.raises(ConfigError, match=r"'folder' has no option 'seed'\. It has none"):
        load_graph("folder", tmp_path, seed=1)


def test_capitals_do_not_matter_and_options_reach_the_loader(tmp_path):
    assert graph_loader("FB15K-237") is graph_loader("fb15k-237")
    assert load_graph("Family", tmp_path / "nowhere", trees=1, generations=2, children=1).test.entities == (
        "tree0.person0",
        "tree0.person1",
        "tree0.person2",
    )
