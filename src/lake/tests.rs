mod crashes;
mod rows;
