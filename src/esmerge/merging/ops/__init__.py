"""Operations that several merges share."""
