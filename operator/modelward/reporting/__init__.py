"""The audit page: from what is known of models and policies to one document, and from that to HTML. Pure."""
