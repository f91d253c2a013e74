from workers.model.config import ModelConfig


def test_layers_alternate_starting_with_sliding() -> None:
    config = ModelConfig(num_hidden_layers=3, num_local_experts=4)
    assert config.layer_types == ("sliding_attention", "full_attention", "sliding_attention")
    assert [config.is_sliding(layer) for layer in range(3)] == [True, False, True]


def test_given_layer_types_stay() -> None:
    config = ModelConfig(num_hidden_layers=2, num_local_experts=4, layer_types=("full_attention", "full_attention"))
    assert not config.is_sliding(0)
