import pytest
from attention_kit import new_model


@pytest.fixture
def model():
    return new_model()
