# A configuration without anything: scenarios write their own.
