"""Stage finetune: tune the factors on the task, the dense model as teacher."""
