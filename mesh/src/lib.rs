//! axes, groups, collectives and transports
