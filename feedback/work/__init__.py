"""The processes behind the service. `supervisor` lives in the API's process and starts the others; `worker` claims jobs and runs
the network; `decoding` opens media, one untrusted file at a time, under limits; `explainer` alone imports torch."""
