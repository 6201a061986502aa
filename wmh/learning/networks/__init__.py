"""Networks: one encoder, and one decoder and head for each structure a task predicts."""
