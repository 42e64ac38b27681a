"""The MQTT broker in earnest: who may say what on it, its configuration and its certificates.

`rules` and `mosquitto` are pure; `trust` judges certificates; `folder` writes and renews a broker's folder. What runs a
broker for demo and tests is `host_tools.gateway.broker`.
"""
