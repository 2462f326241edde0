"""COCO's numbers and what lies behind them."""
