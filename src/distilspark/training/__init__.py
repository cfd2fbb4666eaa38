"""Fine-tuning: class weights, schedule, callbacks, fit."""
