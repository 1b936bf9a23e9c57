"""What a flow's command says where no server answers, or where it lacks what Prefect's settings name."""

from __future__ import annotations

import httpx
import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from ai.ml.core.errors import StorageFailed, UsageError
from tasks.command_line import server_answers


def test_no_password_of_the_servers_address_is_shown() -> None:
    with (
        temporary_settings({PREFECT_API_URL: "http://ada:s3cret@127.0.0.1:1/api"}),
        pytest.raises(StorageFailed, match=r"answers at http://ada:\*\*\*@127\.0\.0\.1:1/api: refused"),
        server_answers(),
    ):
        raise httpx.ConnectError("refused")


def test_a_storage_of_results_that_is_not_there_is_the_users_mistake() -> None:
    said = "Unable to find block document named nope for block type local-file-system"
    with pytest.raises(UsageError, match=rf"{said}; make the block, or unset PREFECT_DEFAULT"), server_answers():
        raise ValueError(said)
    with pytest.raises(ValueError, match="another"), server_answers():
        raise ValueError("another")
