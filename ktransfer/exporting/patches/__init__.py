"""Operations of other libraries, written so that every converter has them."""
