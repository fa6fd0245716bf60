"""The endpoint under load: latencies at several rates of requests."""
