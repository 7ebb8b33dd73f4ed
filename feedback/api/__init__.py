"""The service over HTTP: one router a subject, problem+json for every refusal. Of the rest of `feedback` it knows the one door, `service`."""
