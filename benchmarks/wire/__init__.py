"""What a gateway is measured with: an engine that costs nothing, load that costs little, and the peers."""
