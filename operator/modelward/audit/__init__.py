"""Counters that sidecars encrypt to an auditor's key, the controller adds unread, and the auditor alone opens."""
