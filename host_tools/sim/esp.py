"""ESP-IDF's error numbers, as the simulated chip reports them; MicroPython makes an OSError of the negative number.

Numbers: esp-idf `components/esp_common/include/esp_err.h`, `components/nvs_flash/include/nvs.h`,
`components/app_update/include/esp_ota_ops.h`.
"""

FAIL = (-1, "ESP_FAIL")
INVALID_ARG = (0x102, "ESP_ERR_INVALID_ARG")
INVALID_SIZE = (0x104, "ESP_ERR_INVALID_SIZE")
NOT_FOUND = (0x105, "ESP_ERR_NOT_FOUND")
OTA_VALIDATE_FAILED = (0x1503, "ESP_ERR_OTA_VALIDATE_FAILED")


class EspError(Exception):
    """An error as ESP-IDF reports it: `code` is its number, the text its name."""

    def __init__(self, error: tuple[int, str]) -> None:
        super().__init__(error[1])
        self.code = error[0]
