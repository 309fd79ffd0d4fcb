//! pre-training: the step, optimizer, schedules, checkpoint policy, recovery
