"""Programs that run in processes of their own while a question is measured."""
